//! A look-alike of NCCL, so that programs that use it run where there is no GPU.
//!
//! The library has NCCL's soname and exports its functions; cudarc, unmodified, calls them. It works
//! on the streams and the memory of the mock CUDA driver, as the real one does on the real driver's:
//! an operation is put on its stream and runs when the stream comes to it. Ranks are threads of one
//! process, or processes of one machine, or both.
//!
//! Who forgets that a send may wait for its receive is found by the setting `send = rendezvous`: then
//! a send ends only when its receive has begun. Ranks that die, hang, err or never show up are
//! planted by the setting `fault`. As with NCCL, what waits on a stream goes on only when its
//! communicator is aborted, and other ranks learn nothing of an abort.
//!
//! | module | holds |
//! |---|---|
//! | [`api`] | NCCL's functions |
//! | [`comm`], [`group`] | communicators, and calls that are put together |
//! | [`bootstrap`] | how ranks find each other |
//! | [`world`], [`link`], [`mailbox`], [`message`] | what carries bytes between ranks |
//! | [`exchange`], [`operation`], [`collective`], [`element`] | what is done with them |
//! | [`fault`], [`settings`], [`counters`], [`control`] | what tests set and read |

#![allow(non_snake_case)]

pub mod abi;
pub mod api;
pub mod bootstrap;
pub mod collective;
pub mod comm;
pub mod control;
pub mod counters;
pub mod element;
pub mod exchange;
pub mod failure;
pub mod fault;
pub mod group;
pub mod link;
pub mod mailbox;
pub mod message;
pub mod operation;
pub mod settings;
pub mod world;
