package bolt

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"golang.org/x/sys/unix"
)

// bbolt believes its pages: one that leads back to itself would be walked
// until the stack is full, which no program survives. So the pages that a call
// is going to meet are looked at first. They are those of the file, which
// does not change before the commit.

// A page begins with its number (8 bytes), flags and count of elements (2
// each) and the number of pages that it goes on for (4). An element has 16
// bytes: of a branch the place and size of its key (4 each) and the child (8);
// of a leaf flags, place, size of the key and size of the value (4 each).
// Places count from the element.
const (
	pageHead   = 16
	elemSize   = 16
	branchPage = 1
	leafPage   = 2
	subBucket  = 1  // a leaf element's flag: the value is a bucket
	bucketHead = 16 // root page, sequence; a root of 0 is a page that follows at once
	maxDepth   = 32 // of a tree; with two keys to a page it takes 2^32 rows
)

// tree is the file as it was when the transaction began.
type tree struct {
	data  []byte // mapped
	page  int64
	pages int64
	free  []uint64 // ascending
	root  uint64
	seen  map[uint64]*treePage
	// tables are the roots that have been looked up.
	tables map[string]*treePage
}

// treePage is a page that has been found whole. All its keys lie between those
// beside it in its parent.
type treePage struct {
	raw      []byte
	low, end []byte // keys are >= low and, unless end is nil, < end
	leaf     bool
	root     bool // of its tree
	names    bool // of the tree that holds the tables
	depth    int
	count    int
	bottom   *int // 1 + the depth of its tree's leaves, 0 while none is known
}

// mapTree maps the file for reading.
func mapTree(fd int, page, pages int64, root uint64, free []uint64) (*tree, error) {
	data, err := unix.Mmap(fd, 0, int(page*pages), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &tree{data: data, page: page, pages: pages, root: root, free: free,
		seen: map[uint64]*treePage{}, tables: map[string]*treePage{}}, nil
}

func (t *tree) close() error { return unix.Munmap(t.data) }

func (p *treePage) key(i int) []byte {
	e := p.raw[pageHead+elemSize*i:]
	if p.leaf {
		at, size := binary.NativeEndian.Uint32(e[4:]), binary.NativeEndian.Uint32(e[8:])
		return e[at : at+size]
	}
	at, size := binary.NativeEndian.Uint32(e), binary.NativeEndian.Uint32(e[4:])
	return e[at : at+size]
}

// value is that of a leaf's element.
func (p *treePage) value(i int) []byte {
	e := p.raw[pageHead+elemSize*i:]
	n := binary.NativeEndian
	at := n.Uint32(e[4:]) + n.Uint32(e[8:])
	return e[at : at+n.Uint32(e[12:])]
}

// inspect looks at the bytes of a page.
func (p *treePage) inspect() error {
	n := binary.NativeEndian
	if len(p.raw) < pageHead {
		return errors.New("is cut short")
	}
	flags := n.Uint16(p.raw[8:])
	if flags != branchPage && flags != leafPage {
		return errors.New("is not one of a tree")
	}
	p.leaf, p.count = flags == leafPage, int(n.Uint16(p.raw[10:]))
	if p.count == 0 && !(p.leaf && p.root) {
		return errors.New("is empty")
	}
	if p.depth > maxDepth {
		return errors.New("lies too deep")
	}
	if p.leaf {
		if *p.bottom == 0 {
			*p.bottom = p.depth + 1
		}
		if *p.bottom != p.depth+1 {
			return errors.New("is a leaf among branches")
		}
	} else if *p.bottom > 0 && p.depth+1 >= *p.bottom {
		return errors.New("is a branch among leaves")
	}
	if pageHead+elemSize*p.count > len(p.raw) {
		return errors.New("has too many elements")
	}
	last := p.low
	for i := range p.count {
		e := p.raw[pageHead+elemSize*i:]
		at, key, value := uint64(n.Uint32(e)), uint64(n.Uint32(e[4:])), uint64(0)
		if p.leaf {
			at, key, value = key, uint64(n.Uint32(e[8:])), uint64(n.Uint32(e[12:]))
			if p.names != (n.Uint32(e) == subBucket) {
				return errors.New("has an element of another kind")
			}
		}
		if key == 0 || at+key+value > uint64(len(e)) {
			return errors.New("has an element that leads out of it")
		}
		k := e[at : at+key]
		if c := bytes.Compare(k, last); c < 0 || c == 0 && i > 0 {
			return errors.New("has keys out of order")
		}
		last = k
	}
	if p.end != nil && p.count > 0 && bytes.Compare(last, p.end) >= 0 {
		return errors.New("has keys of another")
	}
	return nil
}

// load gives page id as the child of parent that holds the keys from low to
// end; without a parent as the root of a tree.
func (t *tree) load(id uint64, parent *treePage, low, end []byte) (*treePage, error) {
	if p := t.seen[id]; p != nil {
		if p.root != (parent == nil) || !bytes.Equal(p.low, low) || !bytes.Equal(p.end, end) {
			return nil, fmt.Errorf("page %d is in two places", id)
		}
		return p, nil
	}
	if id < 2 || id >= uint64(t.pages) {
		return nil, fmt.Errorf("page %d of %d is used", id, t.pages)
	}
	if _, ok := slices.BinarySearch(t.free, id); ok {
		return nil, fmt.Errorf("page %d is both used and free", id)
	}
	raw := t.data[int64(id)*t.page:]
	n := binary.NativeEndian
	more := int64(n.Uint32(raw[12:]))
	if n.Uint64(raw) != id || more >= t.pages-int64(id) {
		return nil, fmt.Errorf("page %d is not itself", id)
	}
	p := &treePage{raw: raw[:(more+1)*t.page], low: low, end: end}
	if parent == nil {
		p.root, p.names, p.bottom = true, id == t.root, new(int)
	} else {
		p.names, p.depth, p.bottom = parent.names, parent.depth+1, parent.bottom
	}
	if err := p.inspect(); err != nil {
		return nil, fmt.Errorf("page %d %w", id, err)
	}
	t.seen[id] = p
	return p, nil
}

// child loads the i-th child of a branch.
func (t *tree) child(p *treePage, i int) (*treePage, error) {
	low, end := p.low, p.end
	if i > 0 {
		low = p.key(i)
	}
	if i+1 < p.count {
		end = p.key(i + 1)
	}
	return t.load(binary.NativeEndian.Uint64(p.raw[pageHead+elemSize*i+8:]), p, low, end)
}

// table gives the root of a table's tree.
func (t *tree) table(name string) (*treePage, error) {
	if p := t.tables[name]; p != nil {
		return p, nil
	}
	top, err := t.load(t.root, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	leaf, _, err := t.descend(top, []byte(name))
	if err != nil {
		return nil, err
	}
	at, ok := leaf.find([]byte(name))
	if !ok {
		return nil, fmt.Errorf("table %s is missing", name)
	}
	head := leaf.value(at)
	if len(head) < bucketHead {
		return nil, fmt.Errorf("table %s has no beginning", name)
	}
	var p *treePage
	if root := binary.NativeEndian.Uint64(head); root != 0 {
		p, err = t.load(root, nil, nil, nil)
	} else {
		p = &treePage{raw: head[bucketHead:], root: true, bottom: new(int)}
		if err = p.inspect(); err != nil {
			err = fmt.Errorf("table %s %w", name, err)
		}
	}
	if err == nil {
		t.tables[name] = p
	}
	return p, err
}

// find gives the place of the first key >= key, and whether it is that key.
func (p *treePage) find(key []byte) (at int, exact bool) {
	at = sort.Search(p.count, func(i int) bool { return bytes.Compare(p.key(i), key) >= 0 })
	return at, at < p.count && bytes.Equal(p.key(at), key)
}

// step is a branch on the way down and the child that was taken.
type step struct {
	page *treePage
	at   int
}

// descend goes from p to the leaf where key belongs, as bbolt does.
func (t *tree) descend(p *treePage, key []byte) (leaf *treePage, way []step, err error) {
	for !p.leaf {
		at, exact := p.find(key)
		if !exact && at > 0 {
			at--
		}
		way = append(way, step{p, at})
		if p, err = t.child(p, at); err != nil {
			return nil, nil, err
		}
	}
	return p, way, nil
}

// beside gives the leaf before (-1) or after (+1) the one that way leads to;
// nil at the end.
func (t *tree) beside(way []step, where int) (p *treePage, err error) {
	for i := len(way) - 1; i >= 0; i-- {
		at := way[i].at + where
		if at < 0 || at >= way[i].page.count {
			continue
		}
		for p = way[i].page; ; at = 0 {
			if where < 0 && p != way[i].page {
				at = p.count - 1
			}
			if p, err = t.child(p, at); err != nil || p.leaf {
				return p, err
			}
		}
	}
	return nil, nil
}

// forGet looks at what finding key meets.
func (t *tree) forGet(table string, key []byte) error {
	root, err := t.table(table)
	if err == nil {
		_, _, err = t.descend(root, key)
	}
	return err
}

// forWalk looks at what a step from key to the row before (-1) or after (+1)
// meets. Steps after key up to, not from, the key last meet nothing else; nil
// is the end of the table.
func (t *tree) forWalk(table string, key []byte, where int) (last []byte, err error) {
	root, err := t.table(table)
	if err != nil {
		return nil, err
	}
	_, way, err := t.descend(root, key)
	if err != nil {
		return nil, err
	}
	next, err := t.beside(way, where)
	if err != nil || next == nil {
		return nil, err
	}
	return next.key(next.count - 1), nil
}

// forDelete looks at what a commit meets once key is gone: pages that have
// become small are joined with one beside them, up to the root.
func (t *tree) forDelete(table string, key []byte) error {
	_, before := t.forWalk(table, key, -1)
	_, after := t.forWalk(table, key, +1)
	if before != nil || after != nil {
		return cmp.Or(before, after)
	}
	_, way, err := t.descend(t.tables[table], key)
	for _, s := range way {
		if err == nil && s.at > 0 {
			_, err = t.child(s.page, s.at-1)
		}
		if err == nil && s.at+1 < s.page.count {
			_, err = t.child(s.page, s.at+1)
		}
	}
	return err
}
