//! Pipeline schedules as data, their verifier, communicators and the executor.
