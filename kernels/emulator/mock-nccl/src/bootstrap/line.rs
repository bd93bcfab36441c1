//! Lines of text over a connection, given up when nobody wants them any more.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

/// How long to wait before looking whether the line is still wanted.
const PATIENCE: Duration = Duration::from_millis(10);

/// Reads a line, without its end. Reads no byte beyond it.
///
/// # Errors
/// The connection ended, or `wanted` says that the line is not.
pub fn read(connection: &mut UnixStream, wanted: &dyn Fn() -> bool) -> io::Result<String> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match connection.read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => line.push(byte[0]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if !wanted() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            Err(e) => return Err(e),
        }
    }
    connection.set_read_timeout(None)?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// Writes a line.
///
/// # Errors
/// The connection ended.
pub fn write(connection: &mut UnixStream, line: &str) -> io::Result<()> {
    connection.write_all(format!("{line}\n").as_bytes())
}
