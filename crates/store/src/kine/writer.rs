//! The one writer of this process: takes what waits, carries it out in one transaction of the database,
//! and only when that is durable tells watchers and callers.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::plan::{self, Needs, Plan};
use super::session::{Fault, Purpose, Session};
use super::shared::{Pause, Shared};
use super::sql;
use crate::error::Error;
use crate::limits;
use crate::work::Work;

/// The writer and its connection.
pub struct Writer {
    shared: Arc<Shared>,
    /// What this process tells its own commits by.
    word: i64,
    session: Option<Box<dyn Session>>,
}

/// How a try ended that did not succeed.
enum Failed {
    /// Nothing took effect.
    Before(Fault),
    /// The answer to the commit is missing.
    Commit(Plan, String),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Before(fault)
    }
}

impl Writer {
    pub fn new(shared: Arc<Shared>, word: i64) -> Self {
        Self {
            shared,
            word,
            session: None,
        }
    }

    /// Works until all senders are gone.
    pub async fn run(mut self, mut waiting: mpsc::Receiver<Work>) {
        let mut held = None;
        loop {
            let first = match held.take() {
                Some(work) => work,
                None => match waiting.recv().await {
                    Some(work) => work,
                    None => break,
                },
            };
            let mut bytes = plan::weight(&first);
            let mut batch = vec![first];
            while batch.len() < limits::GROUP_COMMIT && bytes < limits::SQL_BATCH_BYTES {
                let Ok(work) = waiting.try_recv() else { break };
                bytes += plan::weight(&work);
                if bytes > limits::SQL_BATCH_BYTES {
                    held = Some(work);
                    break;
                }
                batch.push(work);
            }
            self.commit(batch).await;
        }
        self.shared.hub.close();
    }

    /// Carries out one batch and answers it.
    async fn commit(&mut self, batch: Vec<Work>) {
        match self.carry_out(&batch).await {
            Ok(plan) => self.done(plan, batch),
            // What the database refuses may be the fault of one request.
            Err(Error::Backend { .. }) if batch.len() > 1 && self.session.is_some() => {
                for work in batch {
                    let one = vec![work];
                    match self.carry_out(&one).await {
                        Ok(plan) => self.done(plan, one),
                        Err(e) => one.into_iter().for_each(|w| w.answer(Err(e.clone()))),
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, requests = batch.len(), "commit failed");
                for work in batch {
                    work.answer(Err(error.clone()));
                }
            }
        }
    }

    /// Tells of a durable plan.
    fn done(&self, plan: Plan, batch: Vec<Work>) {
        if let (Some(first), Some(last)) = (plan.writes.first(), plan.writes.last()) {
            self.shared
                .publish_own(first.row.id, last.row.id, &plan.batches);
        }
        if !plan.leases.is_empty() {
            self.shared.leases.notify_one();
        }
        for (work, outcome) in batch.into_iter().zip(plan.outcomes) {
            work.answer(outcome);
        }
    }

    /// Tries until it works, cannot work, or the time is up.
    async fn carry_out(&mut self, batch: &[Work]) -> Result<Plan, Error> {
        let needs = Needs::of(batch);
        let deadline = Instant::now() + limits::SQL_CALL;
        let mut pause = Pause::new();
        loop {
            let fault = match self.attempt(batch, &needs, deadline).await {
                Ok(plan) => return Ok(plan),
                Err(Failed::Before(fault)) => fault,
                Err(Failed::Commit(plan, why)) => {
                    self.session = None;
                    match self.settle(&plan, deadline).await {
                        Some(true) => return Ok(plan),
                        Some(false) => Fault::Lost(why),
                        None => {
                            return Err(Error::Uncertain {
                                operation: "commit",
                                message: why,
                            });
                        }
                    }
                }
            };
            self.undo(&fault).await;
            let again = matches!(fault, Fault::Lost(_) | Fault::Again(_));
            if !again || Instant::now() >= deadline {
                return Err(fault.error("commit"));
            }
            tracing::debug!(%fault, "commit to the database is repeated");
            pause.wait().await;
        }
    }

    /// Leaves the connection without a transaction, or gives it up.
    async fn undo(&mut self, fault: &Fault) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        if matches!(fault, Fault::Lost(_)) {
            return;
        }
        if let Ok(Ok(())) = timeout(limits::SQL_CALL, session.rollback()).await {
            self.session = Some(session);
        }
    }

    async fn attempt(
        &mut self,
        batch: &[Work],
        needs: &Needs,
        deadline: Instant,
    ) -> Result<Plan, Failed> {
        let late = || Fault::Lost("no answer in time".into());
        let (mut session, plan) = timeout_at(deadline, self.written(batch, needs))
            .await
            .map_err(|_| late())??;
        if plan.is_empty() {
            session.rollback().await?;
            self.session = Some(session);
            return Ok(plan);
        }
        match timeout(limits::SQL_STATEMENT, session.commit()).await {
            Ok(Ok(())) => {
                self.session = Some(session);
                Ok(plan)
            }
            Ok(Err(Fault::Lost(why))) => Err(Failed::Commit(plan, why)),
            // The database says that it did not.
            Ok(Err(fault)) => {
                self.session = Some(session);
                Err(fault.into())
            }
            Err(_) => Err(Failed::Commit(plan, "no answer in time".into())),
        }
    }

    /// All of a transaction but its commit. The connection is given back only if all went well or the
    /// database answered; a call that is given up midway takes it along.
    async fn written(
        &mut self,
        batch: &[Work],
        needs: &Needs,
    ) -> Result<(Box<dyn Session>, Plan), Fault> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.shared.connector.connect(Purpose::Write).await?,
        };
        let done = write(&self.shared, self.word, &mut *session, batch, needs).await;
        match done {
            Ok(plan) => Ok((session, plan)),
            Err(fault) => {
                self.session = Some(session);
                Err(fault)
            }
        }
    }

    /// Whether a plan whose commit was not answered took effect, if that can be found out: whoever has the lock
    /// now knows that the connection that had it is done.
    async fn settle(&mut self, plan: &Plan, deadline: Instant) -> Option<bool> {
        if plan.writes.is_empty() {
            return None;
        }
        let d = self.shared.dialect();
        let mut pause = Pause::new();
        while Instant::now() < deadline {
            let look = async {
                let mut session = self.shared.connector.connect(Purpose::Write).await?;
                session.begin().await?;
                sql::lock(&mut *session).await?;
                let written = sql::is_written(&mut *session, d, plan).await?;
                session.rollback().await?;
                Ok::<_, Fault>((session, written))
            };
            match timeout_at(deadline, look).await {
                Ok(Ok((session, written))) => {
                    self.session = Some(session);
                    return Some(written);
                }
                Ok(Err(fault)) => tracing::debug!(%fault, "a commit's fate is not known yet"),
                Err(_) => return None,
            }
            pause.wait().await;
        }
        None
    }
}

async fn write(
    shared: &Shared,
    word: i64,
    s: &mut dyn Session,
    batch: &[Work],
    needs: &Needs,
) -> Result<Plan, Fault> {
    let d = shared.dialect();
    s.begin().await?;
    sql::lock(s).await?;
    let view = sql::view(s, d, needs).await?;
    let plan = plan::evaluate(view, batch);
    if !plan.is_empty() {
        sql::write(s, d, &plan, word).await?;
    }
    Ok(plan)
}
