//! How moments and lists of targets are written out.
//!
//! A moment has no meaning outside of its process. Written out it is the number of nanoseconds since
//! an arbitrary one, which is the same for the whole process; only differences count.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A moment in nanoseconds, 292 years around the origin at most.
pub(crate) fn nanoseconds(moment: Instant) -> i64 {
    let number = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match moment.checked_duration_since(*ORIGIN) {
        Some(after) => number(after),
        None => -number(ORIGIN.saturating_duration_since(moment)),
    }
}

/// The moment that is so many nanoseconds from the origin.
pub(crate) fn moment_at(nanoseconds: i64) -> Instant {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    let moment = if nanoseconds < 0 {
        ORIGIN.checked_sub(distance)
    } else {
        ORIGIN.checked_add(distance)
    };
    // The kernel's clocks have room for more than 292 years on either side.
    moment.unwrap_or(*ORIGIN)
}

/// A moment.
pub(super) mod moment {
    use std::time::Instant;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(moment: &Instant, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(super::nanoseconds(*moment))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Instant, D::Error> {
        i64::deserialize(from).map(super::moment_at)
    }
}

/// A moment, or none.
pub(super) mod moment_if_any {
    use std::time::Instant;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it with this reference")]
    pub(crate) fn serialize<S: Serializer>(
        moment: &Option<Instant>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        moment.map(super::nanoseconds).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Instant>, D::Error> {
        Ok(Option::<i64>::deserialize(from)?.map(super::moment_at))
    }
}

/// Targets that rounds share.
pub(crate) mod targets {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::config::Target;

    pub(crate) fn serialize<S: Serializer>(
        targets: &Arc<[Target]>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(targets.iter())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<[Target]>, D::Error> {
        Vec::<Target>::deserialize(from).map(Arc::from)
    }
}
