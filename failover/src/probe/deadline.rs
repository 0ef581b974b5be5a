//! Waiting for an answer that may be there although the time is up.

use std::future::Future;
use std::pin::pin;

use tokio::time::Instant;

/// The result of `answer`, or `None` if it is not there by `deadline`.
///
/// When the whole daemon was kept from running (stopped, or starved), time is up for answers that
/// lie in the sockets' buffers. That is not the uplink's fault: the sockets are looked at once more
/// before time counts as up.
pub(super) async fn by<T>(deadline: Instant, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    if let Ok(result) = tokio::time::timeout_at(deadline, &mut answer).await {
        return Some(result);
    }
    // A task that yields runs again after the runtime has looked at its sockets, and the second
    // time after the task that reads this one has run.
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
    tokio::select! {
        biased;
        result = &mut answer => Some(result),
        () = std::future::ready(()) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::UnixStream;
    use tokio::sync::oneshot;

    use super::*;

    /// The daemon is stopped just after it asked; the answer comes, and time passes, meanwhile.
    async fn stopped_with(answer: &[u8]) -> Option<u8> {
        let (far, near) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut near = UnixStream::from_std(near).unwrap();
        let (deliver, delivered) = oneshot::channel();
        let reader = tokio::spawn(async move {
            let byte = near.read_u8().await;
            deliver.send(byte.ok()).ok();
        });
        let timeout = Duration::from_millis(20);
        let asked = Instant::now();
        let waiting = tokio::spawn(by(asked + timeout, delivered));
        tokio::task::yield_now().await;
        (&far).write_all(answer).unwrap();
        while asked.elapsed() <= timeout * 2 {
            std::hint::spin_loop();
        }
        let result = waiting.await.unwrap();
        reader.abort();
        result.and_then(Result::ok).flatten()
    }

    fn alone<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    }

    #[test]
    fn an_answer_that_came_while_the_daemon_was_stopped_counts() {
        assert_eq!(alone(stopped_with(b"!")), Some(b'!'));
    }

    #[test]
    fn no_answer_is_no_answer() {
        assert_eq!(alone(stopped_with(b"")), None);
    }
}
