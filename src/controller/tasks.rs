//! The tasks of a controller, which end with it: not one of them goes on looking and asking for a
//! controller that has lost the lead, or was dropped in the middle of its work.

use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;

use super::lock;

/// Where parts of a controller start their tasks.
#[derive(Debug, Clone, Default)]
pub struct Tasks(Arc<Mutex<JoinSet<()>>>);

impl Tasks {
    /// Start one.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.0);
        // Those that have ended are forgotten.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// The controller that they belong to; its drop ends them. They may well hold each other.
#[derive(Debug, Default)]
pub struct Scope(Tasks);

impl Scope {
    /// Where to start tasks that end with it.
    #[must_use]
    pub fn tasks(&self) -> Tasks {
        self.0.clone()
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // Dropped outside of the lock: a task may hold the last reference to what spawns.
        let tasks = std::mem::take(&mut *lock(&self.0.0));
        drop(tasks);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn tasks_end_with_their_scope_even_if_they_hold_what_spawned_them() {
        let scope = Scope::default();
        let (sender, mut ended) = mpsc::channel::<()>(1);
        let tasks = scope.tasks();
        scope.tasks().spawn(async move {
            let _held = (tasks, sender);
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        assert!(ended.try_recv().is_err());
        drop(scope);
        // Closed: its only sender is gone.
        assert_eq!(ended.recv().await, None);
    }

    #[tokio::test]
    async fn a_task_that_has_ended_is_forgotten() {
        let scope = Scope::default();
        for _ in 0..10 {
            scope.tasks().spawn(async {});
            tokio::task::yield_now().await;
        }
        assert!(lock(&scope.tasks().0).len() <= 2);
    }
}
