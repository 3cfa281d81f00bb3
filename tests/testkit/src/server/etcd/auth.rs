//! Authentication on a fresh etcd.

use super::ctl::Etcdctl;
use crate::server::ServerError;

impl Etcdctl {
    /// Adds a user who may read and write the keys that start with `prefix`.
    ///
    /// # Errors
    ///
    /// When etcd refuses or does not answer in time.
    pub async fn add_user(&self, name: &str, password: &str, prefix: &str) -> Result<(), ServerError> {
        self.user_add(name, password).await?;
        self.run(&["role", "add", name]).await?;
        self.run(&["role", "grant-permission", "--prefix=true", name, "readwrite", prefix]).await?;
        self.run(&["user", "grant-role", name, name]).await?;
        Ok(())
    }

    /// Gives a user another password, behind the back of who uses the old one.
    ///
    /// # Errors
    ///
    /// When etcd refuses or does not answer in time.
    pub async fn change_password(&self, name: &str, password: &str) -> Result<(), ServerError> {
        self.run_with_input(&["user", "passwd", "--interactive=false", name], password.as_bytes()).await?;
        Ok(())
    }

    /// Makes the administrator and enables authentication; `self` has no user.
    pub(crate) async fn enable_auth(&self) -> Result<(), ServerError> {
        let (name, password) = Self::ROOT;
        self.user_add(name, password).await?;
        self.run(&["user", "grant-role", name, "root"]).await?;
        self.run(&["auth", "enable"]).await?;
        Ok(())
    }

    async fn user_add(&self, name: &str, password: &str) -> Result<(), ServerError> {
        self.run_with_input(&["user", "add", "--interactive=false", name], password.as_bytes()).await?;
        Ok(())
    }
}
