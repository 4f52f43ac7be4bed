use cache_core::Result;
#[cfg(feature = "cluster")]
use std::sync::Weak;

#[cfg(feature = "cluster")]
use crate::cluster::Cluster;
#[cfg(feature = "sentinel")]
use crate::sentinel::Sentinels;
use crate::settings::Address;

/// Where the server of a link is, and how that is found out.
pub(crate) enum Place {
    Server(Address),
    /// Wherever the Sentinels say.
    #[cfg(feature = "sentinel")]
    Watched(Sentinels),
    /// It is a node of a cluster.
    #[cfg(feature = "cluster")]
    Node(Address, Weak<Cluster>),
}

impl Place {
    /// Where to connect to now.
    pub(crate) async fn find(&self) -> Result<Address> {
        match self {
            Self::Server(address) => Ok(address.clone()),
            #[cfg(feature = "sentinel")]
            Self::Watched(sentinels) => sentinels.ask().await,
            #[cfg(feature = "cluster")]
            Self::Node(address, _) => Ok(address.clone()),
        }
    }

    /// The address, if it does not change.
    #[cfg(feature = "cluster")]
    pub(crate) fn address(&self) -> Option<&Address> {
        match self {
            Self::Server(address) | Self::Node(address, _) => Some(address),
            #[cfg(feature = "sentinel")]
            Self::Watched(_) => None,
        }
    }

    pub(crate) fn is_in_cluster(&self) -> bool {
        match self {
            #[cfg(feature = "cluster")]
            Self::Node(..) => true,
            _ => false,
        }
    }

    /// Whether this is where a key is now.
    pub(super) fn serves(&self, key: &str) -> bool {
        match self {
            #[cfg(feature = "cluster")]
            Self::Node(address, cluster) => {
                cluster.upgrade().is_some_and(|cluster| cluster.serves(address, key))
            }
            _ => {
                let _ = key;
                true
            }
        }
    }

    /// Something is not as the map of the cluster says.
    pub(crate) fn doubt(&self) {
        match self {
            Self::Server(_) => {}
            #[cfg(feature = "sentinel")]
            Self::Watched(_) => {}
            #[cfg(feature = "cluster")]
            Self::Node(_, cluster) => {
                if let Some(cluster) = cluster.upgrade() {
                    cluster.doubt();
                }
            }
        }
    }
}
