//! HTTP: the routes of the contract, each turning a request into a call of the [`Hub`] and its outcome
//! into an answer. One file an endpoint; [`problem`] holds every error code once.

mod accept;
mod admission;
mod answers;
mod body;
mod body_room;
mod connection;
mod embed;
mod extract;
mod history;
mod http10;
mod messages;
mod ops;
mod problem;
mod publish;
mod query;
mod request_id;
mod runs;
mod schemas;
mod server;
mod silence;
mod stream;
mod taken_over;
mod turns;
mod ws;

pub use problem::{Code, Problem};
pub(crate) use server::workers;
pub use server::{Server, bind};

use crate::event::RunId;
use crate::hub::Hub;
use actix_web::http::Method;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route, guard};
use answers::Answers;
use body_room::BodyRoom;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;

/// What every handler can reach.
#[derive(Clone)]
pub struct App {
    /// The hub.
    pub hub: Hub,
    /// Renders the metrics; none where they were not installed.
    pub metrics: Option<PrometheusHandle>,
    answers: Arc<Answers>,
    bodies: Arc<BodyRoom>,
}

impl App {
    /// The hub, and what renders the metrics, if they were installed.
    pub fn new(hub: Hub, metrics: Option<PrometheusHandle>) -> Self {
        let answers = Arc::new(Answers::new(hub.config().server.history_cache.as_usize()));
        let bodies = BodyRoom::new(&hub.config().publish);
        Self { hub, metrics, answers, bodies }
    }
}

/// Puts the routes of the contract onto a service.
pub fn routes(config: &mut ServiceConfig) {
    config
        // They are tried in this order, and most requests are publishes.
        .service(
            web::resource("/runs/{run}/events")
                .route(web::post().to(publish::publish))
                .route(get().to(history::history))
                .default_service(web::to(|| refused(&[Method::GET, Method::HEAD, Method::POST]))),
        )
        .service(
            web::resource("/runs/{run}/events/stream")
                .route(web::get().to(stream::follow))
                .route(web::head().to(stream::follow))
                .default_service(web::to(|| refused(&[Method::GET, Method::HEAD]))),
        )
        .service(only_get("/runs/{run}/events/ws", web::get().to(ws::follow)))
        .service(
            web::resource("/events/stream")
                .route(web::get().to(stream::follow_many))
                .route(web::head().to(stream::follow_many))
                .default_service(web::to(|| refused(&[Method::GET, Method::HEAD]))),
        )
        .service(
            web::resource("/events")
                .route(web::post().to(publish::many::publish))
                .default_service(web::to(|| refused(&[Method::POST]))),
        )
        .service(only_get("/runs/{run}/messages", get().to(messages::messages)))
        .service(
            web::resource("/runs/{run}/expiry")
                .route(web::put().to(runs::expiry))
                .default_service(web::to(|| refused(&[Method::PUT]))),
        )
        .service(
            web::resource("/runs/{run}")
                .route(get().to(runs::show))
                .route(web::delete().to(runs::delete))
                .default_service(web::to(|| refused(&[Method::GET, Method::HEAD, Method::DELETE]))),
        )
        .service(only_get("/runs", get().to(runs::list)))
        .service(only_get("/health/live", get().to(ops::live)))
        .service(only_get("/health/ready", get().to(ops::ready)))
        .service(only_get("/metrics", get().to(ops::metrics)))
        .service(only_get("/openapi.json", get().to(ops::openapi)))
        .service(only_get("/schemas/events.json", get().to(schemas::events)))
        .service(only_get("/", get().to(ops::index)));
}

/// GET, and HEAD with it.
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

fn only_get(path: &str, route: Route) -> actix_web::Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(|| refused(&[Method::GET, Method::HEAD])))
}

async fn refused(allowed: &'static [Method]) -> Problem {
    Problem::method_not_allowed(allowed)
}

/// Answers a path that is no route. A run id with a slash in it makes such a path.
async fn not_found(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let endings = ["/events/stream", "/events/ws", "/events", "/messages", "/expiry", ""];
    let within = request.path().strip_prefix("/runs/");
    let name = within.and_then(|rest| {
        let ending = endings.iter().find(|ending| rest.ends_with(**ending))?;
        rest.strip_suffix(ending).filter(|name| !ending.is_empty() || name.is_empty())
    });
    match name.map(RunId::parse) {
        Some(Err(error)) => Err(error.into()),
        _ => {
            let detail = "there is nothing at this path; GET / lists what there is";
            Err(Problem::new(Code::NotFound, detail))
        }
    }
}
