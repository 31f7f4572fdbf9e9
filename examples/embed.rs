//! A hub inside somebody else's actix-web application, below a prefix.
//!
//! ```sh
//! cargo run --example embed                # starts, tries itself out, and ends
//! cargo run --example embed -- --serve     # goes on until Ctrl-C
//! ```
#![allow(missing_docs, clippy::print_stdout, reason = "an example shows what it does")]

use actix_web::{App, HttpServer, web};
use runhub::event::RunId;
use runhub::hub::JobPublisher;
use runhub::{Config, Hub};
use serde_json::{Map, Value};
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    actix_web::rt::System::new().block_on(host())
}

async fn host() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut config = Config::default();
    config.server.data_dir = folder.path().join("data");
    let hub = Hub::open(config)?;

    let in_app = hub.clone();
    let server = HttpServer::new(move || {
        App::new()
            .route("/", web::get().to(async || "the application's own page"))
            .service(web::scope("/hub").configure(in_app.routes()))
    })
    // A browser that goes away is noticed at once, and streams do not hold up the end.
    .h1_allow_half_closed(false)
    .shutdown_timeout(5)
    .bind(("127.0.0.1", 0))?;
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    println!("follow a run: curl -N http://{address}/hub/runs/job-1/events/stream");

    // Without HTTP, from anywhere in the application.
    let job = JobPublisher::new(&hub, RunId::parse("job-1")?);
    job.started("outline").await?;
    job.progress("outline", 0.5).await?;
    let mut outline = Map::new();
    outline.insert("title".to_owned(), Value::from("Hello"));
    job.outline_generated(outline.clone()).await?;
    job.completed("outline", outline).await?;

    if std::env::args().any(|word| word == "--serve") {
        tokio::signal::ctrl_c().await?;
    } else {
        let page = web::block(move || -> Result<String, ureq::Error> {
            let url = format!("http://{address}/hub/runs/job-1/events");
            ureq::get(url).call()?.body_mut().read_to_string()
        });
        let page: Value = serde_json::from_str(&page.await??)?;
        println!("{page:#}");
        if page["count"] != 4 {
            return Err("four events were published".into());
        }
    }
    // First the streams, then the server.
    hub.close(Duration::from_secs(5)).await;
    handle.stop(true).await;
    Ok(())
}
