//! The list of create-only kinds that this crate answers.

use std::sync::Arc;

use client::Reads;
use machinery::descriptor::Creator;
use machinery::request::{Authenticator, Authorizer};
use pki::TokenSigner;

use crate::reviews::{AccessReview, AccessReviews, RulesReviews, SelfSubjectReviews, TokenReviews};
use crate::service_account::ServiceAccounts;
use crate::token_request::TokenRequests;

/// One answerer and where it is served.
pub struct Entry {
    pub group: &'static str,
    pub resource: &'static str,
    /// `""` for the resource itself.
    pub subresource: &'static str,
    pub creator: Arc<dyn Creator>,
}

/// What the answerers need.
pub struct Parts {
    pub reads: Arc<dyn Reads>,
    pub signer: Arc<TokenSigner>,
    pub accounts: Arc<ServiceAccounts>,
    /// Token authenticators besides `accounts`.
    pub tokens: Vec<Arc<dyn Authenticator>>,
    pub authorizer: Arc<dyn Authorizer>,
}

/// All of them.
pub fn all(p: &Parts) -> Vec<Entry> {
    let entry = |group, resource, subresource, creator| Entry {
        group,
        resource,
        subresource,
        creator,
    };
    let access = |kind| {
        Arc::new(AccessReviews {
            authorizer: p.authorizer.clone(),
            kind,
        })
    };
    let audiences = p.accounts.audiences().to_vec();
    let tokens = TokenRequests::new(p.reads.clone(), p.signer.clone(), audiences, None);
    let reviews = TokenReviews {
        accounts: p.accounts.clone(),
        others: p.tokens.clone(),
    };
    let rules = RulesReviews {
        authorizer: p.authorizer.clone(),
    };
    let (authn, authz) = ("authentication.k8s.io", "authorization.k8s.io");
    vec![
        entry("", "serviceaccounts", "token", Arc::new(tokens)),
        entry(authn, "tokenreviews", "", Arc::new(reviews)),
        entry(
            authn,
            "selfsubjectreviews",
            "",
            Arc::new(SelfSubjectReviews),
        ),
        entry(
            authz,
            "subjectaccessreviews",
            "",
            access(AccessReview::Subject),
        ),
        entry(
            authz,
            "localsubjectaccessreviews",
            "",
            access(AccessReview::LocalSubject),
        ),
        entry(
            authz,
            "selfsubjectaccessreviews",
            "",
            access(AccessReview::SelfSubject),
        ),
        entry(authz, "selfsubjectrulesreviews", "", Arc::new(rules)),
    ]
}
