//! What goes wrong with a server, with what it printed.

use std::error::Error;
use std::fmt;

/// A server could not be started, reached or told something.
///
/// `Debug` is the report a failing test prints: the message, its causes and the end of the server's output.
pub struct ServerError(Box<Report>);

struct Report {
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    output: String,
}

impl ServerError {
    /// An error with a lower-case message that says what was attempted on what.
    pub fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Report { message: message.into(), source: None, output: String::new() }))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds what the server or the tool printed.
    #[must_use]
    pub fn with_output(mut self, output: impl Into<String>) -> Self {
        self.0.output = output.into();
        self
    }

    /// What the server or the tool printed last; empty when there is nothing.
    pub fn output(&self) -> &str {
        &self.0.output
    }

    /// Whether somebody else had the port: a start with another port can do better.
    pub fn is_port_taken(&self) -> bool {
        // Go says it in lower case, Java in upper case, and Spring Boot in its own words.
        ["address already in use", "Address already in use", "was already in use"]
            .iter()
            .any(|words| self.0.output.contains(words))
    }

    /// Whether the same start can do better the next time: the port was taken, or the machine too busy for the 10 s that
    /// Nacos gives its own database.
    pub(crate) fn passes(&self) -> bool {
        self.is_port_taken() || self.0.output.contains("Login timeout exceeded")
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        if !self.0.output.is_empty() {
            write!(f, "\n--- its output ends with ---\n{}", self.0.output.trim_end())?;
        }
        Ok(())
    }
}

impl Error for ServerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
