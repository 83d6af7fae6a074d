// Package cove holds the nouns of the container engine: what a container,
// volume, network and event are, how they are recorded, which moves of status
// are legal and what kinds of error exist. It does no I/O and imports nothing
// but the standard library, so every room of the house can speak its words.
//
// The verbs (create, start, stop, remove …) live in internal/engine. A
// container is described once, as a [ContainerSpec], whatever asked for it:
// command line, API or YAML.
package cove

// Version is the release of cove, of its monitor and of its runtime. It is
// set at link time (-X) by the Makefile where there is a tag.
var Version = "0.1.0-dev"

// Commit is what cove was built of, with "-dirty" where files were changed since,
// and Built when, in Unix seconds: SOURCE_DATE_EPOCH or the commit's time, so that
// the same sources give the same program. Both are set as [Version] is and may be
// empty.
var Commit, Built string

// Schema is the version of the records that this release writes. A record
// with a higher number was written by a newer cove: it is readable when its
// unknown fields can be kept, and refused otherwise.
const Schema = 1

// IDLength is the number of hexadecimal digits of a full identifier
// (256 random bits), as in podman and docker.
const IDLength = 64

// ShortIDLength is the number of digits that lists print.
const ShortIDLength = 12

// MaxNameLength is the longest name of a volume or a network: that of its lock,
// which has "network-" before it, is a file's or stands in a table of 254 bytes.
const MaxNameLength = 246
