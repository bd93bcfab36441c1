//! The host's bytes, through the buffer.

use super::{NcclComm, Staging};
use crate::comm::CommError;

impl NcclComm {
    /// Collects as many bytes of every rank, on all of them, by rank; waits for it.
    pub(super) fn all_bytes(&mut self, what: &str, own: &[u8]) -> Result<Vec<Vec<u8>>, CommError> {
        let (rank, size) = (self.group.rank() as usize, self.group.size() as usize);
        let mut all = vec![Vec::with_capacity(own.len()); size];
        // Where nothing is said, one byte says that the rank is there.
        let own = if own.is_empty() { &[0] } else { own };
        for part in own.chunks(Staging::BYTES / size) {
            let uploaded = self.staging.upload(&self.stream, rank * part.len(), part);
            self.cuda(uploaded)?;
            let (from, into) = (self.staging.at(rank * part.len()), self.staging.at(0));
            self.group.together(what, &self.stream, |calls| {
                // SAFETY: inside the buffer, which is used in the order of this stream alone.
                unsafe { calls.all_gather(from, into, part.len()) }
            })?;
            let downloaded = self.staging.download(&self.stream, 0, size * part.len());
            self.cuda(downloaded)?;
            self.group.wait(&self.stream)?;
            let found = self.staging.read(0, size * part.len()).chunks(part.len());
            all.iter_mut().zip(found).for_each(|(all, found)| all.extend_from_slice(found));
        }
        Ok(all)
    }

    /// Sends bytes of the host; waits until they are received.
    pub(super) fn send_bytes(
        &mut self,
        to: u32,
        what: &str,
        bytes: &[u8],
    ) -> Result<(), CommError> {
        for part in bytes.chunks(Staging::BYTES) {
            let uploaded = self.staging.upload(&self.stream, 0, part);
            self.cuda(uploaded)?;
            let from = self.staging.at(0);
            self.group.together(what, &self.stream, |calls| {
                // SAFETY: inside the buffer, which is used in the order of this stream alone.
                unsafe { calls.send(from, part.len(), to) }
            })?;
            self.group.wait(&self.stream)?;
        }
        Ok(())
    }

    /// Receives bytes of the host; waits until they are there.
    pub(super) fn recv_bytes(
        &mut self,
        from: u32,
        what: &str,
        bytes: &mut [u8],
    ) -> Result<(), CommError> {
        for part in bytes.chunks_mut(Staging::BYTES) {
            let into = self.staging.at(0);
            self.group.together(what, &self.stream, |calls| {
                // SAFETY: as in `send_bytes`.
                unsafe { calls.recv(into, part.len(), from) }
            })?;
            let downloaded = self.staging.download(&self.stream, 0, part.len());
            self.cuda(downloaded)?;
            self.group.wait(&self.stream)?;
            part.copy_from_slice(self.staging.read(0, part.len()));
        }
        Ok(())
    }
}
