//! Histories as files of JSON lines.

use super::record::{Record, What};
use parking_lot::Mutex;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// What all who take part write into; its clock is theirs.
pub struct Recorder {
    start: Instant,
    file: Mutex<BufWriter<File>>,
}

impl Recorder {
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = Mutex::new(BufWriter::new(File::create(path)?));
        Ok(Self { start: Instant::now(), file })
    }

    /// Appends a record. The clock is read under the lock, so that lines and times have one order.
    pub fn record(&self, what: What) {
        let mut file = self.file.lock();
        let record = Record { at: self.now(), what };
        let line = serde_json::to_string(&record).expect("a record is JSON");
        writeln!(file, "{line}").expect("the history can be written");
    }

    /// µs since the start.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).expect("a campaign is short")
    }

    /// Puts what is buffered into the file.
    pub fn flush(&self) -> io::Result<()> {
        self.file.lock().flush()
    }
}

/// Reads a history back.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::other)).collect()
}
