//! The one remotable actor of a process.
//!
//! Every actor whose messages are serialisable can be called by any peer, so there is exactly one, and all that it
//! does is to hand bytes to the hub. It is supervised by nobody and never fails: whatever a peer sends is a value.

use super::handshake::SessionToken;
use ractor::message::{BoxedDowncastErr, SerializedMessage};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, Message, pg};
use std::sync::Arc;

/// Process group through which peers find each other's port.
const GROUP: &str = "quipu.link";
/// Name of the one message; anything else is not for us.
const VARIANT: &str = "frame";

/// Takes what peers send.
pub(super) trait Inbox: Send + Sync + 'static {
    /// A message of a session.
    fn frame(&self, token: SessionToken, payload: Vec<u8>);
    /// Something that is no message.
    fn malformed(&self);
}

/// What peers send to a port. Local actors send it nothing.
pub(super) enum PortMessage {
    Frame { token: SessionToken, payload: Vec<u8> },
    Malformed,
}

// By hand, since the derived decoder of ractor_cluster panics on malformed bytes and hides them from the count.
impl Message for PortMessage {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        match self {
            Self::Frame { token, payload } => Ok(SerializedMessage::Cast {
                variant: VARIANT.to_owned(),
                args: payload,
                metadata: Some(token.to_vec()),
            }),
            Self::Malformed => Err(BoxedDowncastErr),
        }
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        let SerializedMessage::Cast { variant, args: payload, metadata: Some(token) } = message else {
            return Ok(Self::Malformed);
        };
        match SessionToken::try_from(token) {
            Ok(token) if variant == VARIANT => Ok(Self::Frame { token, payload }),
            _ => Ok(Self::Malformed),
        }
    }
}

/// The actor.
pub(super) struct Port;

impl Actor for Port {
    type Msg = PortMessage;
    type State = Arc<dyn Inbox>;
    type Arguments = Arc<dyn Inbox>;

    async fn pre_start(
        &self,
        myself: ActorRef<PortMessage>,
        inbox: Arc<dyn Inbox>,
    ) -> Result<Self::State, ActorProcessingErr> {
        pg::join(GROUP.to_owned(), vec![myself.get_cell()]);
        Ok(inbox)
    }

    async fn handle(
        &self,
        _myself: ActorRef<PortMessage>,
        message: PortMessage,
        inbox: &mut Arc<dyn Inbox>,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PortMessage::Frame { token, payload } => inbox.frame(token, payload),
            PortMessage::Malformed => inbox.malformed(),
        }
        Ok(())
    }
}

/// The port at the other end of a session, once it has announced itself.
pub(super) fn remote_port(session_node: ractor_cluster::NodeId) -> Option<ActorCell> {
    pg::get_members(&GROUP.to_owned())
        .into_iter()
        .find(|cell| matches!(cell.get_id(), ActorId::Remote { node_id, .. } if node_id == session_node))
}

/// Sends a message to a remote port; false if it is gone.
pub(super) fn send(port: &ActorCell, token: SessionToken, payload: Vec<u8>) -> bool {
    PortMessage::Frame { token, payload }.serialize().is_ok_and(|message| port.send_serialized(message).is_ok())
}
