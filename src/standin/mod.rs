//! The stand-ins for SQL Server and Octopus Server: what `up --demo` and the tests run where the real images cannot be had.
