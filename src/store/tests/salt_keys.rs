//! The accepted keys of Salt minions.

use super::*;

fn keys(of: &[(&str, &[u8])]) -> NewSaltKeys {
    let keys = of.iter().map(|(host, key)| (HostName::parse(host).unwrap(), key.to_vec())).collect();
    NewSaltKeys { at: NOW, keys, operator_uid: 7 }
}

fn identity(number: u32, salt_key: &[u8]) -> Draft {
    let record = CertificateRecord { kind: CertificateKind::Identity, name: pg0().to_string(), ..record(number) };
    let by = EnrolledBy::SaltKey { salt_key: Digest::of(salt_key) };
    Draft::new(NOW, record, tbs(number).into(), Condition::Enrollment { by }).unwrap()
}

#[tokio::test]
async fn the_key_that_signed_must_still_be_accepted_inside_the_append() {
    let ledger = Ledger::new();
    let store = ledger.open();
    let (pg0, pg1) = (pg0(), "pg1.iad1.psf.io");
    let refused = |draft| async {
        let error = store.record(draft).await.unwrap_err();
        assert!(matches!(error, RecordError::SaltKeyNotAccepted(_)), "{error}");
    };
    refused(identity(1, b"first")).await;
    store.import_salt_keys(keys(&[(pg0.as_str(), b"first"), (pg1, b"other")])).await.unwrap();
    for foreign in [&b"other"[..], b"second"] {
        refused(identity(2, foreign)).await;
    }
    let changed = store.import_salt_keys(keys(&[(pg0.as_str(), b"second")])).await.unwrap();
    assert_eq!(changed, SaltKeysImported { imported: 1, removed: 1, unchanged: 0 });
    refused(identity(3, b"first")).await;
    let entries = ledger.entries().len();
    let same = store.import_salt_keys(keys(&[(pg0.as_str(), b"second")])).await.unwrap();
    assert_eq!((same, ledger.entries().len()), (SaltKeysImported { imported: 0, removed: 0, unchanged: 1 }, entries));

    let first = store.record(identity(4, b"second")).await.unwrap();
    let again = store.record(identity(5, b"second")).await.unwrap();
    assert!(again.is_repeated() && again.index() == first.index());
    // Not even a lost answer is given to a minion that was rejected since.
    store.import_salt_keys(keys(&[])).await.unwrap();
    refused(identity(6, b"second")).await;
}
