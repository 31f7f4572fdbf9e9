//! What is done with the live batches that a subscriber hears: the seam says whether, the outbox gets them. No actor
//! and no store is in it.

use super::control::Control;
use super::outbox::Outbox;
use super::seam::{OnBatch, Seam};
use crate::event::EncodedBatch;
use crate::hub::run::Gap;

/// What is left to do once a live batch was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) enum AfterBatch {
    /// Nothing.
    Nothing,
    /// To read the store: something lies before the batch.
    Read,
    /// To wait for room, and then to read the store.
    WaitForRoom,
    /// To end: the reader has all of a run that is over.
    End,
}

/// Takes a live batch, behind a gap or not.
pub(super) fn hear(
    seam: &mut Seam,
    outbox: &Outbox,
    batch: &EncodedBatch,
    gap: Option<Gap>,
) -> AfterBatch {
    match seam.on_batch(batch.prev, batch.last) {
        OnBatch::Ignore => AfterBatch::Nothing,
        OnBatch::Read => AfterBatch::Read,
        OnBatch::Deliver => {
            if let Some(gap) = gap.filter(|gap| gap.requested == seam.cursor()) {
                outbox.push_control(Control::Gap(gap));
            }
            outbox.push_batch(batch, seam.cursor());
            seam.delivered(batch.last);
            if seam.is_at_head() && outbox.progress().ended {
                AfterBatch::End
            } else if outbox.is_full() && seam.fall_behind() {
                AfterBatch::WaitForRoom
            } else {
                AfterBatch::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox::{Progress, Shape};
    use super::*;
    use crate::event::{EventId, Filter, ReadRules, RunId, decode_entry};

    fn outbox(limit: usize) -> Outbox {
        let progress = Progress::default();
        Outbox::new(Filter::default(), Shape::default(), false, limit, progress)
    }

    fn batch(prev: u64, category: &[u8], action: &[u8]) -> EncodedBatch {
        let run = RunId::parse("7").unwrap();
        let fields: [(&[u8], &[u8]); 2] =
            [(b"event_category", category), (b"event_action", action)];
        let event = decode_entry(&run, EventId::new(prev + 1, 0), fields);
        EncodedBatch::encode(EventId::new(prev, 0), vec![event], &ReadRules::default())
    }

    #[test]
    fn a_batch_is_delivered_once_and_says_what_is_next() {
        let (mut seam, roomy) = (Seam::new(EventId::START), outbox(1 << 20));
        let mut hear = |batch: &EncodedBatch| hear(&mut seam, &roomy, batch, None);
        let first = batch(0, b"a", b"b");
        assert_eq!((hear(&first), roomy.progress().cursor), (AfterBatch::Nothing, first.last));
        let end = batch(1, b"lifecycle", b"completed");
        assert_eq!(hear(&end), AfterBatch::End);
        assert_eq!(hear(&end), AfterBatch::Nothing, "it is known");
        assert_eq!(hear(&batch(7, b"a", b"b")), AfterBatch::Read);
        let (mut seam, narrow) = (Seam::new(EventId::START), outbox(1));
        assert_eq!(super::hear(&mut seam, &narrow, &first, None), AfterBatch::WaitForRoom);
    }
}
