//! The known types: VOCABULARY's table, and the only place where they are listed.

use super::data::{DoesNotFit, Keys, read};
use super::field::{AgentMode, AgentOutcome, Field, FinishStatus, Object};
use super::table::{first, pair};
use super::{FieldRow, KnownEvent, KnownType, Shape};
use serde_json::Value;
use std::borrow::Cow;

vocabulary! {
    /// A run begins, or goes on after its end.
    LifecycleStarted = "lifecycle.started" {
        ;
        /// What is to be done.
        task: String;
    }
    /// A run has done its work.
    LifecycleCompleted = "lifecycle.completed"; terminal {
        ;
        /// What came of it.
        result: Value,
        /// The same in short.
        summary: String,
        /// Figures about the run.
        statistics: Value;
    }
    /// A run could not do its work.
    LifecycleFailed = "lifecycle.failed"; terminal {
        /// What went wrong.
        error: String;
        /// What sort of error it is.
        error_type: String;
    }
    /// A run was given up.
    LifecycleCancelled = "lifecycle.cancelled"; terminal {
        ;
        /// Why.
        reason: String;
    }
    /// A run is over, well or not.
    LifecycleFinish = "lifecycle.finish", flat "finish"; terminal {
        /// How it ended.
        status: FinishStatus;
        /// What went wrong.
        error: String;
    }
    /// An agent begins.
    AgentStart = "agent.start", flat "agent_start" {
        /// What it is told to do.
        prompt: String,
        /// What it is built with.
        framework: String;
        /// Whether it works alone.
        mode: AgentMode;
    }
    /// An agent is done.
    AgentEnd = "agent.end", flat "agent_end" {
        /// How it ended.
        status: AgentOutcome;
        /// What came of it.
        output: Value,
        /// The stage it worked in.
        stage: String,
        /// The product requirements it wrote.
        prd_document: Value,
        /// The design it wrote.
        design_document: Value;
    }
    /// An agent met an error.
    AgentError = "agent.error", flat "agent_error" {
        /// What went wrong.
        error: String,
        /// What sort of error it is.
        error_type: String;
        /// More about it.
        details: Value;
    }
    /// A model is asked.
    LlmStart = "llm.start", flat "llm_start" {
        ;
        /// The model.
        model: String,
        /// What it is asked.
        prompt: String,
        /// How freely it may answer.
        temperature: f64;
    }
    /// A model says some more.
    LlmStream = "llm.stream", flat "llm_stream" {
        ;
        /// The new text.
        content: String,
        /// The new text, as other programs call it.
        delta: String,
        /// What the text is.
        content_type: String = "\"text\"";
        needs content or delta
    }
    /// A model has answered.
    LlmEnd = "llm.end", flat "llm_end" {
        /// The whole answer.
        content: String;
        /// What the answer took.
        usage: Object,
        /// Why the model stopped.
        finish_reason: String;
    }
    /// A model thinks.
    LlmReasoning = "llm.reasoning" {
        /// The thought.
        thought: String;
        ;
    }
    /// A model wants a tool used.
    LlmToolCall = "llm.tool_call" {
        /// The tool.
        tool: String,
        /// What it is given.
        args: Object;
        ;
    }
    /// A model is told what a tool brought.
    LlmToolResult = "llm.tool_result" {
        /// The tool.
        tool: String,
        /// What it brought.
        result: Value;
        ;
    }
    /// A tool begins.
    ToolStart = "tool.start", flat "tool_start" {
        /// The tool.
        tool_name: String;
        /// What it is given.
        tool_args: Object;
    }
    /// A tool is done.
    ToolEnd = "tool.end", flat "tool_end" {
        /// The tool.
        tool_name: String,
        /// What it brought.
        tool_result: Value;
        /// Whether it did its work.
        success: bool = "true",
        /// What went wrong.
        error: String;
    }
    /// A message grows.
    MessageDelta = "message.delta", flat "message_delta" {
        /// The new text.
        delta: String;
        /// Whose message it is.
        role: String;
    }
    /// A message is whole.
    MessageComplete = "message.complete", flat "message_complete" {
        /// The whole text.
        content: String;
        /// Whose message it is.
        role: String,
        /// The stage it belongs to.
        stage: String;
    }
    /// A node of a graph begins.
    NodeStart = "node.start", flat "node_start" {
        /// The node.
        node_name: String;
        /// The agent that works in it.
        agent_name: String;
    }
    /// A node of a graph is done.
    NodeEnd = "node.end", flat "node_end" {
        /// The node.
        node_name: String;
        /// The agent that worked in it.
        agent_name: String,
        /// What came of it.
        output: Value;
    }
    /// Work goes on in another stage.
    StageChange = "stage.change", flat "stage_change" {
        /// The stage that begins.
        to_stage: String | "new_stage";
        /// The stage that ends.
        from_stage: String | "old_stage";
    }
    /// A team is given a task.
    DispatchTeam = "dispatch.team" {
        /// The team.
        team_name: String,
        /// The task.
        task: String;
        ;
    }
    /// A worker is given a task.
    DispatchWorker = "dispatch.worker" {
        /// The worker.
        worker_name: String,
        /// The task.
        task: String;
        ;
    }
    /// A task has found who does it.
    DispatchAssigned = "dispatch.assigned" {
        ;
        /// The task.
        task: String,
        /// The worker.
        worker_name: String,
        /// The worker's team.
        team_name: String;
    }
    /// Who works under whom.
    SystemTopology = "system.topology" {
        /// The teams and their members.
        hierarchy: Object;
        ;
    }
    /// Something is not as it should be.
    SystemWarning = "system.warning" {
        /// What.
        message: String;
        ;
    }
    /// Something failed.
    SystemError = "system.error" {
        /// What.
        message: String;
        /// Its number or name.
        code: Value;
    }
    /// A job begins.
    TaskStarted = "task.started", flat "task_started" {
        /// What sort of job it is.
        task_type: String | "taskType";
        ;
    }
    /// A job gets on.
    TaskProgress = "task.progress", flat "task_progress" {
        /// What sort of job it is.
        task_type: String | "taskType",
        /// How far it is, in its own words.
        progress: Value;
        /// What it does now.
        step: Value,
        /// How far it is, of a hundred.
        progress_percent: f64;
    }
    /// A job is done.
    TaskCompleted = "task.completed", flat "task_completed" {
        /// What sort of job it is.
        task_type: String | "taskType";
        /// What came of it.
        result: Object,
        /// How long it took.
        duration: f64;
    }
    /// A job failed.
    TaskFailed = "task.failed", flat "task_failed" {
        /// What sort of job it is.
        task_type: String | "taskType",
        /// What went wrong.
        error: String;
        ;
    }
    /// An outline is there.
    OutlineGenerated = "outline.generated", flat "outline_generated" {
        /// The outline.
        outline: Object;
        ;
    }
    /// A document is there.
    DocumentGenerated = "document.generated", flat "document_generated" {
        /// The document.
        document: Object;
        ;
    }
    /// Anything that has no type of its own.
    CustomEvent = "custom.event", flat "custom" { anything }
}
