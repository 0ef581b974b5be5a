//! What a test hides from a program.

use crate::ProgramSpec;

/// Hides every `nft` behind a device, in a mount namespace of its own, and becomes the command.
const WITHOUT_NFT: &str = r#"
set -e
mount --make-rprivate /
IFS=:
for folder in $PATH:/usr/sbin:/sbin:/usr/local/sbin; do
    if [ -e "$folder/nft" ]; then mount --bind /dev/null "$folder/nft"; fi
done
unset IFS
exec "$@"
"#;

/// The program, where there is no `nft`.
#[must_use]
pub fn without_nft(spec: ProgramSpec) -> ProgramSpec {
    spec.through(["unshare", "--mount", "sh", "-c", WITHOUT_NFT, "sh"])
}
