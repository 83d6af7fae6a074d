package memory

// node is the root of a persistent treap: a search tree by key that is a heap
// by weight, where weights are hashes of the keys. Nodes are never changed
// once made; every operation costs O(log n).
type node struct {
	key       string
	value     []byte
	weight    uint64
	low, high *node
}

func newNode(key string, value []byte) *node {
	return &node{key: key, value: value, weight: weigh(key)}
}

// weigh is FNV-1a with a finisher: keys that differ little weigh apart.
func weigh(key string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

// with is n with other children.
func (n *node) with(low, high *node) *node {
	c := *n
	c.low, c.high = low, high
	return &c
}

// split parts a tree at key.
func (n *node) split(key string) (low, at, high *node) {
	switch {
	case n == nil:
		return nil, nil, nil
	case key < n.key:
		low, at, high = n.low.split(key)
		return low, at, n.with(high, n.high)
	case key > n.key:
		low, at, high = n.high.split(key)
		return n.with(n.low, low), at, high
	}
	return n.low, n, n.high
}

// join makes one tree of two, all keys of low being below those of high.
func join(low, high *node) *node {
	switch {
	case low == nil:
		return high
	case high == nil:
		return low
	case low.weight > high.weight:
		return low.with(low.low, join(low.high, high))
	}
	return high.with(join(low, high.low), high.high)
}

// floor gives the node with the greatest key <= key.
func (n *node) floor(key string) (best *node) {
	for n != nil {
		if n.key <= key {
			best, n = n, n.high
		} else {
			n = n.low
		}
	}
	return best
}

// ceiling gives the node with the least key >= key.
func (n *node) ceiling(key string) (best *node) {
	for n != nil {
		if n.key >= key {
			best, n = n, n.low
		} else {
			n = n.high
		}
	}
	return best
}
