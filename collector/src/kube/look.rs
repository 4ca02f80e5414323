//! The look of kinds that watch the Kubernetes API: one object is asked for, which proves that
//! the API server answers, knows the kind, and lets us. Must not know what the objects mean.

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;

use crate::kube::failure;
use crate::probe::failure::Failure;
use crate::probe::{Seen, Session};

type Question = Box<dyn Fn() -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// A client and what it asks at each look.
#[derive(Default)]
pub struct KubeSession {
    questions: Vec<Question>,
}

impl KubeSession {
    /// Asks for one of these too. `what` is their plural name, for messages.
    pub fn ask<K>(&mut self, api: Api<K>, what: String)
    where
        K: Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        self.questions.push(Box::new(move || {
            let (api, tried) = (api.clone(), format!("list {what}"));
            Box::pin(async move {
                // Of the metadata only: an object can be large.
                let listed = api.list_metadata(&ListParams::default().limit(1)).await;
                listed
                    .map(drop)
                    .map_err(|error| failure::of(&tried, &error))
            })
        }));
    }
}

impl Session for KubeSession {
    fn look(&mut self) -> BoxFuture<'_, Result<Seen, Failure>> {
        let asked: Vec<_> = self.questions.iter().map(|question| question()).collect();
        Box::pin(async {
            for question in asked {
                question.await?;
            }
            Ok(Seen::default())
        })
    }
}
