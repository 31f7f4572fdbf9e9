//! What a client, an operator or a foreign Redis program sees: CONTRACT, section by section.

mod bad_input;
mod command_line;
mod discovery;
mod docs;
mod foreign;
mod history;
mod jobs;
mod life;
mod many_runs;
mod messages;
mod operations;
mod overload;
mod publish;
mod publish_many;
mod runs;
mod stream;
mod tls;
mod typed;
mod websocket;
