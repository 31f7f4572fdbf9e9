//! What a client, an operator or a foreign Redis program sees: CONTRACT, section by section.

mod bad_input;
mod command_line;
mod docs;
mod foreign;
mod history;
mod life;
mod many_runs;
mod operations;
mod publish;
mod publish_many;
mod runs;
mod stream;
mod typed;
mod websocket;
