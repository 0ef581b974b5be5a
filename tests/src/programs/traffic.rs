//! What the programs note of users' traffic.

use aya::maps::{Array, MapData, PerCpuArray, RingBuf};
use failover_common::{Liveness, TrafficNews, UplinkConnections, UplinkLiveness, maps};

use super::ProgramsError;
use super::loaded::{Loaded, checked, failed};

impl Loaded {
    /// What is known of the answers to users' traffic through an uplink.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn liveness(&self, id: u8) -> Result<UplinkLiveness, ProgramsError> {
        let map: Array<&MapData, [u8; size_of::<UplinkLiveness>()]> =
            Array::try_from(self.map(maps::LIVENESS)?).map_err(failed(maps::LIVENESS))?;
        let bytes = map.get(&id.into(), 0).map_err(failed(maps::LIVENESS))?;
        checked(maps::LIVENESS, &bytes)
    }

    /// How users' connections through an uplink fared, over all processors.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn connections(&self, id: u8) -> Result<UplinkConnections, ProgramsError> {
        let map: PerCpuArray<_, [u8; size_of::<UplinkConnections>()]> =
            PerCpuArray::try_from(self.map(maps::CONNECTIONS)?)
                .map_err(failed(maps::CONNECTIONS))?;
        let values = map.get(&id.into(), 0).map_err(failed(maps::CONNECTIONS))?;
        values
            .iter()
            .try_fold(UplinkConnections::default(), |sum, bytes| {
                Ok(sum.plus(checked(maps::CONNECTIONS, bytes)?))
            })
    }

    /// From now on users are answered all the time, as they are by a line that works.
    ///
    /// # Errors
    /// When there is no such map, or the kernel refuses.
    pub fn answer_users(&mut self) -> Result<(), ProgramsError> {
        let name = maps::LIVENESS;
        let map = self.map_mut(name)?;
        let mut map: Array<&mut MapData, [u8; size_of::<UplinkLiveness>()]> =
            Array::try_from(map).map_err(failed(name))?;
        let answered = Liveness {
            answered_ns: u64::MAX,
            ..Liveness::default()
        };
        let both: [u8; size_of::<UplinkLiveness>()] = bytemuck::cast(UplinkLiveness {
            ipv4: answered,
            ipv6: answered,
        });
        for uplink in 1..=maps::UPLINK_CAPACITY {
            map.set(uplink, both, 0).map_err(failed(name))?;
        }
        Ok(())
    }

    /// What was told since this was last asked.
    ///
    /// # Errors
    /// When it makes no sense, or there is no such map.
    pub fn take_news(&mut self) -> Result<Vec<TrafficNews>, ProgramsError> {
        let name = maps::TRAFFIC_NEWS;
        let map = self.map_mut(name)?;
        let mut ring = RingBuf::try_from(map).map_err(failed(name))?;
        let mut news = Vec::new();
        while let Some(bytes) = ring.next() {
            news.push(checked(name, &bytes)?);
        }
        Ok(news)
    }
}
