//! Log lines, and what happens on a signal.

use tokio::signal::unix::{SignalKind, signal};

/// Writes a line as Go's log package does.
pub fn line(text: &str) {
    let now = jiff::Timestamp::now()
        .strftime("%Y/%m/%d %H:%M:%S")
        .to_string();
    eprintln!("{now} {text}");
}

/// Does something on TERM (15) or INT (2): as PID 1 a process without handlers ignores both.
pub fn on_signal(act: impl Fn(i32) + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let Ok(runtime) = runtime else {
            eprintln!("no runtime for signals");
            return;
        };
        runtime.block_on(async {
            let (Ok(mut term), Ok(mut int)) = (
                signal(SignalKind::terminate()),
                signal(SignalKind::interrupt()),
            ) else {
                eprintln!("no handlers for signals");
                return;
            };
            loop {
                tokio::select! {
                    _ = term.recv() => act(15),
                    _ = int.recv() => act(2),
                }
            }
        });
    });
}

/// Ends at once with exit code 2, as a Go program does as PID 1.
pub fn end_on_signal() {
    on_signal(|_| std::process::exit(2));
}

/// Waits for ever.
pub fn forever() -> ! {
    loop {
        std::thread::park();
    }
}
