//! The hub's routes in somebody else's actix-web application.

use super::{App, routes};
use crate::hub::Hub;
use actix_web::web::{Data, ServiceConfig};

impl Hub {
    /// The routes of the contract, for `.configure(hub.routes())` of an application or of a scope with any
    /// prefix. Authentication, CORS and the like are the application's own.
    pub fn routes(&self) -> impl FnOnce(&mut ServiceConfig) + Clone + use<> {
        let app = Data::new(App::new(self.clone(), None));
        move |config| {
            config.app_data(app);
            routes(config);
        }
    }
}
