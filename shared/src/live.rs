//! A value that may be replaced while others read it.

use std::sync::{Arc, PoisonError, RwLock};

/// Settings that a running node may be given anew. Clones are the same value; whoever has taken it keeps what it took.
#[derive(Debug, Default)]
pub struct Live<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Live<T> {
    /// To begin with.
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// As it is now.
    pub fn get(&self) -> Arc<T> {
        // Nothing panics while it is replaced.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// As it is from now on.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

#[cfg(test)]
mod tests {
    use super::Live;

    #[test]
    fn clones_see_what_is_set_and_readers_keep_what_they_took() {
        let live = Live::new(1);
        let (clone, taken) = (live.clone(), live.get());
        live.set(2);
        assert_eq!((*clone.get(), *taken), (2, 1));
    }
}
