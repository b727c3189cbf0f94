//! The JSON that passes between daemon, hosts and operators.
#![cfg_attr(fuzzing, no_main)]

use psfca::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Whatever can be read is read again as the same.
fn survives<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(data) else { return };
    let Ok(written) = serde_json::to_value(&read) else { panic!("read and not to be written") };
    let again = serde_json::from_value::<T>(written.clone()).map(serde_json::to_value::<T>);
    assert!(matches!(again, Ok(Ok(again)) if again == written), "{written}");
}

pub(crate) fn run(data: &[u8]) {
    survives::<wire::EnrollRequest>(data);
    survives::<wire::ApprovalRequest>(data);
    survives::<wire::ApprovalWaiting>(data);
    survives::<wire::PendingRequests>(data);
    survives::<wire::RequestDecision>(data);
    survives::<wire::ChallengeAnswer>(data);
    survives::<wire::SaltEnrollRequest>(data);
    survives::<wire::SaltKeys>(data);
    survives::<wire::TokenRequest>(data);
    survives::<wire::TokenAnswer>(data);
    survives::<wire::Entitlements>(data);
    survives::<wire::CipherPolicy>(data);
    survives::<Vec<wire::HostSummary>>(data);
    survives::<wire::AuditPage>(data);
    survives::<wire::DeclarationText>(data);
    survives::<wire::Consistency>(data);
    survives::<wire::Health>(data);
    survives::<wire::Problem>(data);
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data));
