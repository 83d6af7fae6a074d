package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
)

// maxKey bounds names and IDs; longer ones are refused as Invalid. It leaves
// room for prefixes below every back end's limit on keys.
const maxKey = 4096

// tx is Tx over any back end's rows.
type tx struct{ rows Rows }

// Over makes a back end's rows a Tx.
func Over(rows Rows) Tx { return tx{rows} }

func (t tx) Get(b Bucket, id string, into any) error {
	raw, err := t.rows.Get(Table(b), id)
	if err != nil {
		return err
	}
	if raw == nil {
		return notFound(b, id)
	}
	if _, whether := into.(*struct{}); whether {
		return nil
	}
	return Decode(b, id, raw, into)
}

// ErrDamaged tells that a record cannot be read.
var ErrDamaged = errors.New("it is damaged")

// Decode reads what the store holds of id. The error is one of [ErrDamaged] when
// that is no record, or another's, and says how to go on.
func Decode(b Bucket, id string, raw []byte, into any) error {
	err := json.Unmarshal(raw, into)
	own := id
	switch r := into.(type) {
	case *cove.Container:
		own = r.ID
	case *cove.Volume:
		own = r.Name
	case *cove.Network:
		own = r.ID
	}
	if err == nil && own != id {
		err = fmt.Errorf("it says that it is %q's", clip(own))
	}
	if err != nil {
		return cove.E("read record of "+one(b), id, cove.Internal, fmt.Errorf("%w: %w; %s", ErrDamaged, err, wayOn(b, id)))
	}
	return nil
}

func (t tx) Put(b Bucket, id string, record any) error {
	if err := checkKey(b, id); err != nil {
		return err
	}
	raw, err := json.Marshal(record)
	if err != nil {
		return cove.E("store record", one(b)+" "+id, cove.Internal, err)
	}
	stored, err := t.rows.Get(Table(b), id)
	if err != nil {
		return err
	}
	if stored == nil {
		if err := t.checkSibling(b, id); err != nil {
			return err
		}
	} else if raw, err = keepUnknown(stored, raw, record); err != nil {
		return cove.E("store record", one(b)+" "+id, cove.Internal, err)
	}
	return t.rows.Put(Table(b), id, raw)
}

// checkSibling refuses an ID that the other kind of a shared space has.
func (t tx) checkSibling(b Bucket, id string) error {
	other := map[Bucket]Bucket{Containers: Pods, Pods: Containers}[b]
	if other == "" {
		return nil
	}
	raw, err := t.rows.Get(Table(other), id)
	if err != nil {
		return err
	}
	if raw != nil {
		return cove.E("store record", id, cove.Exists, fmt.Errorf("the ID is in use by a %s", one(other)))
	}
	return nil
}

func (t tx) Delete(b Bucket, id string) error {
	raw, err := t.rows.Get(Table(b), id)
	if err != nil {
		return err
	}
	if raw == nil {
		return notFound(b, id)
	}
	return t.rows.Delete(Table(b), id)
}

func (t tx) List(b Bucket, each func(id string, raw []byte) error) error {
	return t.rows.Ascend(Table(b), "", func(id string, raw []byte) (bool, error) {
		return true, each(id, raw)
	})
}

func (t tx) Find(b Bucket, nameOrID string) (string, error) {
	if nameOrID == "" {
		return "", cove.E("", "", cove.Invalid, errors.New(one(b)+" name or ID is empty"))
	}
	if len(nameOrID) > maxKey || strings.Contains(nameOrID, "\x00") {
		return "", notFound(b, nameOrID)
	}
	holder, err := t.rows.Get(tableNames, space(b)+nameOrID)
	if err != nil {
		return "", err
	}
	if kind, id, _ := strings.Cut(string(holder), "\x00"); kind == string(b) {
		return id, nil
	}
	var found []string
	more := false
	err = t.rows.Ascend(Table(b), nameOrID, func(id string, _ []byte) (bool, error) {
		if !strings.HasPrefix(id, nameOrID) {
			return false, nil
		}
		if id == nameOrID {
			found = []string{id}
			return false, nil
		}
		if more = len(found) == maxCandidates; more {
			return false, nil
		}
		found = append(found, id)
		return true, nil
	})
	switch {
	case err != nil:
		return "", err
	case len(found) == 0:
		return "", notFound(b, nameOrID)
	case len(found) > 1:
		return "", ambiguous(b, nameOrID, found, more)
	}
	return found[0], nil
}

func (t tx) Claim(b Bucket, name, id string) error {
	if err := errors.Join(checkKey(b, name), checkKey(b, id)); err != nil {
		return err
	}
	holder, err := t.rows.Get(tableNames, space(b)+name)
	if err != nil {
		return err
	}
	if holder != nil {
		kind, has, _ := strings.Cut(string(holder), "\x00")
		if kind == string(b) && has == id {
			return nil
		}
		return nameTaken(Bucket(kind), name, has)
	}
	return t.rows.Put(tableNames, space(b)+name, []byte(string(b)+"\x00"+id))
}

func (t tx) Release(b Bucket, name string) error {
	if name == "" {
		return nil
	}
	holder, err := t.rows.Get(tableNames, space(b)+name)
	if err != nil {
		return err
	}
	// A container's release must not free a pod's name.
	if kind, _, _ := strings.Cut(string(holder), "\x00"); kind != string(b) {
		return nil
	}
	return t.rows.Delete(tableNames, space(b)+name)
}

func (t tx) Names(b Bucket, each func(name, id string) error) error {
	return t.ascendPrefix(tableNames, space(b), func(name string, holder []byte) error {
		if kind, id, _ := strings.Cut(string(holder), "\x00"); kind == string(b) {
			return each(name, id)
		}
		return nil
	})
}

func (t tx) Next(sequence string) (uint64, error) {
	if sequence == "" || len(sequence) > maxKey {
		return 0, cove.E("", "", cove.Invalid, errors.New("sequence name is empty or too long"))
	}
	raw, err := t.rows.Get(tableSeqs, sequence)
	if err != nil {
		return 0, err
	}
	var n uint64
	if raw != nil {
		if n, err = strconv.ParseUint(string(raw), 10, 64); err != nil {
			return 0, cove.E("read sequence", sequence, cove.Internal, err)
		}
	}
	n++
	return n, t.rows.Put(tableSeqs, sequence, strconv.AppendUint(nil, n, 10))
}

func (t tx) Meta(key string) ([]byte, error) { return t.rows.Get(TableMeta, key) }

func (t tx) SetMeta(key string, value []byte) error {
	if value == nil {
		return t.rows.Delete(TableMeta, key)
	}
	return t.rows.Put(TableMeta, key, value)
}

// ascendPrefix calls each for the rows whose key begins with prefix, with the
// rest of the key.
func (t tx) ascendPrefix(table Table, prefix string, each func(rest string, value []byte) error) error {
	return t.rows.Ascend(table, prefix, func(k string, v []byte) (bool, error) {
		rest, ok := strings.CutPrefix(k, prefix)
		if !ok {
			return false, nil
		}
		return true, each(rest, v)
	})
}

// space is the prefix of the name space that b's names live in.
func space(b Bucket) string {
	if b == Pods {
		b = Containers
	}
	return string(b) + "\x00"
}

func checkKey(b Bucket, key string) error {
	if key == "" || len(key) > maxKey || strings.Contains(key, "\x00") {
		return cove.E("", "", cove.Invalid, fmt.Errorf("%s name or ID %q is empty, too long or holds a NUL", one(b), clip(key)))
	}
	return nil
}
