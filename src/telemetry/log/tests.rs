//! Facts about the log writer: what comes out, and what a stuck or vanished reader costs.
//!
//! Never does: write to the process's own stdout.

use super::*;
use std::io::Read;
use std::sync::mpsc;

/// Somewhere to write that a test can read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    /// A writer into this sink.
    pub(crate) fn writer(&self) -> LogWriter {
        let settings = LogSettings { hostname: "a\"host".to_owned(), ..LogSettings::default() };
        LogWriter::new(Box::new(self.clone()), settings).expect("a thread")
    }

    /// All that was written so far, line by line.
    pub(crate) fn lines(&self, writer: &LogWriter) -> Vec<serde_json::Value> {
        assert!(writer.flush(LONG));
        let bytes = self.0.lock().clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const LONG: Duration = Duration::from_secs(20);

fn settings(max_bytes: usize, max_lines: usize) -> LogSettings {
    LogSettings { max_bytes, max_lines, ..LogSettings::default() }
}

/// Runs what must not wait on a thread of its own, so that a test that fails does so in time.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    result.recv_timeout(LONG).expect("must not block")
}

#[test]
fn writes_all_lines_in_order() {
    let (mut reader, pipe) = io::pipe().expect("a pipe");
    let writer = LogWriter::new(Box::new(pipe), LogSettings::default()).expect("a thread");
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let mut expected = String::new();
    for number in 0..10_000 {
        let line = format!("{number}\n");
        assert!(writer.push(line.as_bytes(), 1));
        expected.push_str(&line);
    }
    drop(writer);
    assert_eq!(reading.join().expect("joined").expect("read"), expected);
}

#[test]
fn a_reader_that_is_stuck_for_ever_blocks_nobody_and_the_loss_is_counted() {
    let (reader, pipe) = io::pipe().expect("a pipe");
    let writer = LogWriter::new(Box::new(pipe), settings(1_000_000, usize::MAX)).expect("a thread");
    let of_thread = writer.clone();
    let kept = in_time(move || {
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        let kept = (0..100_000).filter(|_| of_thread.push(&line, 1)).count();
        assert!(!of_thread.flush(Duration::from_millis(20)));
        kept
    });
    // The queue holds 10,000 such lines and the pipe itself some hundred more.
    assert!((10_000..12_000).contains(&kept), "{kept}");
    assert_eq!(writer.dropped(), 100_000 - kept as u64);
    drop(reader);
    assert!(writer.flush(LONG));
}

#[test]
fn the_number_of_lines_is_bounded_too() {
    let (_reader, pipe) = io::pipe().expect("a pipe");
    let writer = LogWriter::new(Box::new(pipe), settings(usize::MAX, 100)).expect("a thread");
    let big = [vec![b'x'; 200_000], vec![b'\n']].concat();
    assert!(writer.push(&big, 1));
    for _ in 0..200 {
        writer.push(b"x\n", 1);
    }
    assert_eq!(writer.dropped(), 101);
}

#[test]
fn a_reader_that_has_gone_costs_lines_only() {
    let (reader, pipe) = io::pipe().expect("a pipe");
    drop(reader);
    let writer = LogWriter::new(Box::new(pipe), LogSettings::default()).expect("a thread");
    for _ in 0..3 {
        assert!(writer.push(b"x\ny\n", 2));
        assert!(writer.flush(LONG));
    }
    assert_eq!(writer.dropped(), 6);
}

#[test]
fn a_flush_of_nothing_is_done() {
    let writer = Sink::default().writer();
    assert!(writer.flush(Duration::ZERO));
}

/// A disk that has room for so many bytes, until somebody makes more.
struct Disk(Sink, Arc<Mutex<usize>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.1.lock();
        if *room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let fits = bytes.len().min(*room);
        *room -= fits;
        self.0.write(&bytes[..fits])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_was_full_costs_lines_and_glues_none_together() {
    let (sink, room) = (Sink::default(), Arc::new(Mutex::new(13)));
    let disk = Disk(sink.clone(), Arc::clone(&room));
    let writer = LogWriter::new(Box::new(disk), LogSettings::default()).expect("a thread");
    let push = |line: &[u8]| {
        assert!(writer.push(line, 1));
        assert!(writer.flush(LONG));
    };
    push(b"{\"a\":1}\n");
    push(b"{\"b\":2}\n");
    push(b"{\"c\":3}\n");
    *room.lock() = 1000;
    push(b"{\"d\":4}\n");
    push(b"{\"e\":5}\n");
    assert_eq!(writer.dropped(), 2);
    let text = String::from_utf8(sink.0.lock().clone()).expect("UTF-8");
    assert_eq!(text, "{\"a\":1}\n{\"b\":\n{\"d\":4}\n{\"e\":5}\n");
}
