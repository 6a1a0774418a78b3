//! What `quipu up` does apart from its command line: starts a master and workers as processes, here or over ssh, watches
//! them, starts those that die again, and takes all of them down together.
//!
//! Pure parts: [`policy`] (when to start again and when to give up), [`hosts`] (the hosts file), [`launch`] (argument
//! lists). Shell: [`node`] owns one process at a time, [`fleet`] owns the nodes, [`logs`] carries what they say.
//!
//! Two things hold whatever happens. The secret goes through a node's standard input and nowhere else: no argument list,
//! no environment, no file of another machine. And a node's standard input stays open exactly as long as `up` wants the
//! node to live, so that nodes leave even where `up` is ended by kill -9.

pub(crate) mod fleet;
pub(crate) mod hosts;
pub(crate) mod launch;
pub(crate) mod logs;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod ready;
