//! The router's table, with the paths kept: axum does not tell them, and the API's document is compared with them.

use super::Api;
use axum::Router;
use axum::routing::MethodRouter;
use std::sync::Arc;

/// Routes of the API, which its document describes, and beside them pages for people.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<Arc<Api>>,
    #[cfg(test)]
    pub(super) paths: Vec<String>,
}

impl Routes {
    /// A route of the API.
    pub(super) fn route(mut self, path: &str, handlers: MethodRouter<Arc<Api>>) -> Self {
        #[cfg(test)]
        self.paths.push(path.into());
        self.router = self.router.route(path, handlers);
        self
    }

    /// Pages and what they load.
    pub(super) fn pages(mut self, pages: Router<Arc<Api>>) -> Self {
        self.router = self.router.merge(pages);
        self
    }

    pub(super) fn into_router(self) -> Router<Arc<Api>> {
        self.router
    }
}
