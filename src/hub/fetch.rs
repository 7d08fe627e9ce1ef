//! One file → complete and verified on disk, over as many transfers as that takes. If the file changes on the
//! server, the download starts over.

use super::checksums;
use super::client::{Client, Located, disk};
use super::error::Error;
use super::partial_file::PartialFile;
use super::transfer::{DownloadJob, Transfer, TransferError};
use crate::http::retry::RequestError;

/// How often a file may change during its download.
const MOST_BEGINNINGS: u32 = 4;

impl Client<'_> {
    /// Fetches the file; returns its SHA-256. The target's folder must exist, and no one else may write to
    /// the target.
    pub(super) fn fetch(&self, job: &mut DownloadJob) -> Result<String, Error> {
        let (mut beginnings, mut tries, mut in_pieces) = (0, 0, true);
        loop {
            let located = self.persist(&job.url, || self.locate(&job.url))?;
            self.reconcile(job, &located)?;
            let part =
                PartialFile::open(&job.target, job.size, checksums::version(job)).map_err(|e| disk(&e))?;
            // Without a version to compare, ranges may come from different files.
            let versioned = job.sha256.is_some() || job.validator.is_some();
            let located = Located { ranges: located.ranges && in_pieces && versioned, ..located };
            if !located.ranges {
                part.reset_all().map_err(|e| disk(&e))?;
            }
            self.teller.found(part.done() as i64);
            let in_this_round = self.teller.fetched();
            let ended = match Transfer::new(*self, job, &part, located).run(checksums::follow) {
                Ok(sum) => return part.finish(&job.target).map(|()| sum).map_err(|e| disk(&e)),
                Err(ended) => ended,
            };
            let trouble = match ended {
                TransferError::Failed(error) => return Err(error),
                TransferError::Changed(trouble) => trouble,
            };
            if let RequestError::Changed(why) = &trouble {
                beginnings += 1;
                if beginnings >= MOST_BEGINNINGS {
                    return Err(Error::Changing { name: job.name.clone(), why: why.clone() });
                }
                in_pieces = in_pieces && beginnings < 2;
                self.teller.say(format!("{why}: {} starts over", job.name));
            } else {
                tries = if self.teller.fetched() > in_this_round { 1 } else { tries + 1 };
                beginnings += 1;
                if beginnings > 2 * MOST_BEGINNINGS {
                    return Err(self.failure(&job.url, &trouble));
                }
                self.recover(&job.url, &trouble, tries)?;
            }
            self.teller.found(-(part.done() as i64));
            part.reset_all().map_err(|e| disk(&e))?;
        }
    }

    /// Compares the server's size and version of the file with the expected ones.
    fn reconcile(&self, job: &mut DownloadJob, located: &Located) -> Result<(), Error> {
        let size = located.size.unwrap_or(job.size);
        if job.sha256.is_none() {
            job.validator = located.validator.clone();
            job.size = size;
        } else if size != job.size {
            return Err(Error::OtherSize { name: job.name.clone(), size, listed: job.size });
        }
        Ok(())
    }
}
