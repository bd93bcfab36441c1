//! The root: collects where all ranks are, and tells all of them.

use std::{
    os::unix::net::{UnixListener, UnixStream},
    thread,
};

use super::{Name, line};
use crate::failure::Failure;

/// Starts the root of a name. Its thread ends when all ranks have come.
///
/// # Errors
/// The name is taken, or the system refuses.
pub fn start(name: &Name) -> Result<(), Failure> {
    let listener = UnixListener::bind_addr(&name.address("root")?).map_err(|e| {
        Failure::system(format!("the bootstrap of {name:?} cannot be started: {e}"))
    })?;
    thread::spawn(move || serve(&listener));
    Ok(())
}

/// A rank that has come: its number, how many it believes there are, its own line.
struct Arrival {
    rank: usize,
    ranks: usize,
    line: String,
    connection: UnixStream,
}

fn arrival(mut connection: UnixStream) -> Option<Arrival> {
    let line = line::read(&mut connection, &|| true).ok()?;
    let mut words = line.split(' ');
    let mut number = || words.next()?.parse().ok();
    let (rank, ranks) = (number()?, number()?);
    Some(Arrival { rank, ranks, line, connection })
}

fn serve(listener: &UnixListener) {
    let mut arrivals: Vec<Arrival> = Vec::new();
    while let Ok((connection, _)) = listener.accept() {
        let Some(new) = arrival(connection) else { continue };
        let refusal = match arrivals.first() {
            Some(first) if first.ranks != new.ranks => Some(format!(
                "rank {} says there are {} ranks, rank {} says {}",
                first.rank, first.ranks, new.rank, new.ranks
            )),
            _ => arrivals
                .iter()
                .find(|other| other.rank == new.rank)
                .map(|_| format!("two ranks say that they are rank {}", new.rank)),
        };
        arrivals.push(new);
        if let Some(refusal) = refusal {
            tell(&mut arrivals, &format!("refused {refusal}"));
            return;
        }
        if arrivals.len() == arrivals[0].ranks {
            arrivals.sort_by_key(|arrival| arrival.rank);
            let lines: Vec<_> = arrivals.iter().map(|a| a.line.clone()).collect();
            tell(&mut arrivals, "all");
            lines.iter().for_each(|line| tell(&mut arrivals, line));
            return;
        }
    }
}

fn tell(arrivals: &mut [Arrival], text: &str) {
    for arrival in arrivals {
        // A rank that has gone meanwhile is missed by the others when they connect to it.
        let _ = line::write(&mut arrival.connection, text);
    }
}
