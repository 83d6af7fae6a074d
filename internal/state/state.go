// Package state is the door to the store of records: containers, pods,
// volumes, networks, secrets, their names and the networks' address leases.
//
// Records are the root package's structs as plain JSON under their ID. A back
// end ([bolt], [memory]) supplies nothing but ordered rows ([Rows]) and
// transactions; names, prefixes, leases and the keeping of unknown fields are
// written once, here ([Over]). No operation reads or writes more than
// O(log n) rows per object it names.
//
// Whether a container runs is not in the store: it is derived from the kernel
// and the run files.
package state

import "net/netip"

// Schema is the version of the store's layout that this release writes. A
// store with a higher number is refused untouched; one with a lower number is
// migrated by the first transaction.
const Schema = 1

// Bucket is one kind of record.
type Bucket string

// The buckets. Containers and pods share one space of names and one of IDs.
// A volume's ID is its name.
const (
	Containers Bucket = "containers"
	Pods       Bucket = "pods"
	Volumes    Bucket = "volumes"
	Networks   Bucket = "networks"
	Secrets    Bucket = "secrets"
)

// Buckets lists every bucket.
func Buckets() []Bucket { return []Bucket{Containers, Pods, Volumes, Networks, Secrets} }

// Store runs transactions. It may be used from several goroutines and the
// same file by several processes at once. Nothing is held between
// transactions. A transaction must not be started inside another one of the
// same goroutine: an Update would wait for its own caller until the deadline.
type Store interface {
	// View runs fn on one snapshot; writes through the Tx fail. Several
	// views run at once.
	View(fn func(Tx) error) error
	// Update runs fn alone and makes all it wrote durable before it
	// returns nil. If fn returns an error or panics nothing is written. If
	// Update itself fails after fn (a full disk), nothing is written
	// either. Unavailable when other writers held the store for longer
	// than the store's deadline.
	Update(fn func(Tx) error) error
	// Path is the store's file; "" for memory.
	Path() string
	// Close releases the store. It does not wait for transactions.
	Close() error
}

// Tx is one transaction, valid until the function it was given to returns
// and in that goroutine only.
type Tx interface {
	// Get decodes record id into into, a pointer. NotFound when there is
	// none.
	Get(b Bucket, id string, into any) error
	// Put stores record, a struct or a pointer to one, under id. Fields
	// of the stored record that record's type does not know, at any depth,
	// are kept, and so is a higher "schema". Exists
	// when id belongs to the other kind of one ID space.
	Put(b Bucket, id string, record any) error
	// Delete removes record id. NotFound when there is none. Its names
	// and leases are released separately.
	Delete(b Bucket, id string) error
	// List calls each for every record in order of ID. raw is valid
	// during the call only and must not be changed; each may write.
	List(b Bucket, each func(id string, raw []byte) error) error
	// Find gives the ID of the record with that exact name, else that
	// exact ID, else the only ID with that prefix. NotFound in podman's
	// words; Invalid, with the candidates, when several IDs match.
	Find(b Bucket, nameOrID string) (id string, err error)
	// Claim gives name to id. Exists, naming the holder, when another ID
	// has it; claiming again for the same ID is nothing.
	Claim(b Bucket, name, id string) error
	// Release takes name back. A name nobody holds is nothing.
	Release(b Bucket, name string) error
	// Names calls each for every claimed name of the bucket, in order.
	Names(b Bucket, each func(name, id string) error) error
	// Next gives 1, 2, 3 … for each sequence, never a number twice.
	Next(sequence string) (uint64, error)

	// Lease gives owner an address of subnet on network: wanted when it
	// is valid (it need not lie between first and last), else the next
	// free one between first and last inclusive after the one given last,
	// so that a freed address rests as long as possible. taken, which may
	// be nil, vetoes addresses that are in use otherwise. InUse, naming
	// the owner, when wanted is leased to another; Unavailable when none
	// is free; Invalid when the addresses do not fit the subnet. Leasing
	// an owner's own address again is nothing.
	Lease(network string, subnet netip.Prefix, first, last, wanted netip.Addr, taken func(netip.Addr) bool, owner string) (netip.Addr, error)
	// Unlease frees all addresses of owner on network; with owner "" all
	// of the network, which is then forgotten.
	Unlease(network, owner string) error
	// Free frees one address of network, whoever has it: where the rows
	// disagree, Unlease may not come upon it.
	Free(network string, a netip.Addr) error
	// Leases calls each for every lease on network in order of address.
	Leases(network string, each func(a netip.Addr, owner string) error) error

	// Meta gives the value of key, nil when there is none. It must not
	// be changed.
	Meta(key string) ([]byte, error)
	// SetMeta stores value under key; nil removes it.
	SetMeta(key string, value []byte) error
}
