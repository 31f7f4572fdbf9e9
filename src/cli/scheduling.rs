//! How the kernel shares the processors among the hub's threads and others. By default a thread that wakes
//! interrupts whoever computes on its processor; the hub's threads wake each other all the time, mostly in the
//! middle of work that has more for the one woken.

/// Has threads that this one starts from now on wait for their turn when they wake (`SCHED_BATCH`, sched(7)). A
/// process that was started with a policy or a priority of its own keeps it.
#[cfg(target_os = "linux")]
pub(super) fn wait_for_turns() {
    use thread_priority::{
        NormalThreadSchedulePolicy::{Batch, Other},
        ThreadPriority::Crossplatform,
        ThreadSchedulePolicy::Normal,
        set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
    };
    /// What the library takes for a nice value of 0, which it sets with a policy.
    const NICE_0: u8 = 48;
    let is_usual = thread_schedule_policy() == Ok(Normal(Other))
        && rustix::process::getpriority_process(None) == Ok(0);
    if let Ok(nice_0) = NICE_0.try_into()
        && is_usual
        && let Err(e) =
            set_thread_priority_and_policy(thread_native_id(), Crossplatform(nice_0), Normal(Batch))
    {
        log::debug!("cannot set the scheduling policy of threads: {e}");
    }
}

/// Only Linux has such a policy.
#[cfg(not(target_os = "linux"))]
pub(super) fn wait_for_turns() {}
