package server

// Version is the version of this server, as CHANGELOG.md has it.
const Version = "0.1.0"
