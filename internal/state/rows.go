package state

import (
	"errors"

	"github.com/cove-engine/cove"
)

// Table is one ordered set of rows of a back end.
type Table string

// The tables beside those named as the buckets.
const (
	tableNames  Table = "names"  // space NUL name -> bucket NUL id
	tableLeases Table = "leases" // network NUL address16 -> owner
	tableOwners Table = "owners" // network NUL owner NUL address16 -> ""
	tableRuns   Table = "runs"   // network NUL first16 -> last16 of a run of leased addresses
	tableRovers Table = "rovers" // network NUL subnet -> address16 given last
	tableSeqs   Table = "sequences"
	// TableMeta holds the store's own facts; the schema's key is [SchemaKey].
	TableMeta Table = "meta"
)

// Tables lists every table that a transaction may touch. A store that lacks one
// is damaged: a new table takes a new [Schema] and a way to make it in an older store.
func Tables() []Table {
	t := []Table{TableMeta, tableNames, tableLeases, tableOwners, tableRuns, tableRovers, tableSeqs}
	for _, b := range Buckets() {
		t = append(t, Table(b))
	}
	return t
}

// ErrReadOnly is what [Rows] answer to a write inside a view.
var ErrReadOnly = errors.New("write in a read-only transaction")

// ReadOnly is [ErrReadOnly] with its operation.
func ReadOnly() error { return cove.E("write state", "", cove.Internal, ErrReadOnly) }

// Rows are the ordered rows of one transaction: all that a back end supplies.
// Keys are not empty. Values are valid until the next write or the end of the
// transaction and must not be changed.
type Rows interface {
	// Get gives the value of key, nil when there is none.
	Get(t Table, key string) ([]byte, error)
	// Put stores value, which the caller will not change any more.
	Put(t Table, key string, value []byte) error
	// Delete removes key if it is there.
	Delete(t Table, key string) error
	// Ascend calls each in order of key from the first key >= from, until
	// each returns false or an error. each may write to the table.
	Ascend(t Table, from string, each func(key string, value []byte) (bool, error)) error
	// Floor gives the last row with a key <= key; ok is false when there
	// is none.
	Floor(t Table, key string) (k string, value []byte, ok bool, err error)
}
