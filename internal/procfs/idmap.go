package procfs

import (
	"fmt"
	"strings"
)

// IDMap are the lines of a uid_map or gid_map, user_namespaces(7).
type IDMap []IDRange

// IDRange is Size IDs from Inside on, which are those from Outside on in the user
// namespace of who reads the file.
type IDRange struct{ Inside, Outside, Size uint32 }

// overflowID stands for what has no ID in a user namespace,
// /proc/sys/kernel/overflowuid.
const overflowID = 65534

// ParseIDMap reads such a file; what is not a line of one is passed over.
func ParseIDMap(data []byte) IDMap {
	var all IDMap
	for line := range strings.SplitSeq(string(data), "\n") {
		var r IDRange
		if n, err := fmt.Sscan(line, &r.Inside, &r.Outside, &r.Size); err == nil && n == 3 {
			all = append(all, r)
		}
	}
	return all
}

// OwnIDMap reads this process's own, "uid_map" or "gid_map"; nil where it cannot be read.
func OwnIDMap(name string) IDMap {
	data, err := Read("/proc/self/"+name, 64<<10)
	if err != nil {
		return nil
	}
	return ParseIDMap(data)
}

// ToInside gives an ID as the namespace sees it: the overflow ID when it has none
// there. Without any range IDs are the same on both sides.
func (m IDMap) ToInside(outside uint32) uint32 {
	for _, r := range m {
		if outside >= r.Outside && outside-r.Outside < r.Size {
			return r.Inside + (outside - r.Outside)
		}
	}
	if len(m) == 0 {
		return outside
	}
	return overflowID
}

// ToOutside is ToInside's inverse. An ID that is not mapped is given back.
func (m IDMap) ToOutside(inside uint32) uint32 {
	for _, r := range m {
		if inside >= r.Inside && inside-r.Inside < r.Size {
			return r.Outside + inside - r.Inside
		}
	}
	return inside
}
