package resolver

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// suffix is the domain that podman gives container networks.
const suffix = "dns.podman"

// Bounds on what is read for one query.
const (
	maxFile      = 4096 // octets of one container's file
	maxAddresses = 256
	maxEntries   = 256 // containers of one name
)

// local answers a question from the tree of names. found is false when the
// name is not there; only says that no other server may be asked.
func (r *Resolver) local(b []byte, q *query, limit int) (out []byte, found, only bool) {
	name, inside := strings.CutSuffix(q.name, "."+suffix)
	only = inside || name == suffix || name != "" && !strings.Contains(name, ".")
	if q.class != classIN {
		return nil, false, only
	}
	if a, ok := reverse(q.name); ok && (q.typ == typePTR || q.typ == typeANY) {
		out = r.pointer(b, q, a)
		return out, out != nil, false
	}
	if !q.plain || !safe(name) {
		return nil, false, only
	}
	var addrs []netip.Addr
	for _, n := range r.networks {
		dir, err := unix.Open(r.dir+"/"+n+"/"+name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		before := len(addrs)
		addrs = readAddresses(dir, addrs)
		_ = unix.Close(dir)
		found = found || len(addrs) > before
	}
	if !found {
		return nil, false, only
	}
	out = reply(b, q, rcodeOK)
	out[2] |= flagAuthority
	// Each query starts with another address, so that clients that take the
	// first share the load.
	for i := range addrs {
		a := addrs[(i+int(q.id))%len(addrs)]
		typ := uint16(typeAAAA)
		if a.Is4() {
			typ = typeA
		}
		if q.typ != typ && q.typ != typeANY {
			continue
		}
		if len(out)+12+len(a.AsSlice())+optLen > limit {
			return truncated(b, q), true, only
		}
		out = addRecord(out, typ, a.AsSlice())
	}
	return addOPT(out, q), true, only
}

// safe reports whether a name can be a directory of the tree: of the
// characters of container names, and nothing that a path means otherwise.
func safe(name string) bool {
	if name == "" || name[0] == '.' || len(name) > maxName {
		return false
	}
	for i := range len(name) {
		if !nameChar(name[i]) {
			return false
		}
	}
	return true
}

// readAddresses adds the addresses in all files of a directory.
func readAddresses(dir int, addrs []netip.Addr) []netip.Addr {
	var (
		buf   [4096]byte
		names []string
	)
	for len(names) < maxEntries {
		n, err := unix.ReadDirent(dir, buf[:])
		if err != nil || n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
	for _, name := range names {
		if name[0] == '.' {
			continue // one being written
		}
		for line := range strings.Lines(readFile(dir, name)) {
			a, err := netip.ParseAddr(strings.TrimSpace(line))
			if err != nil || a.Zone() != "" || len(addrs) >= maxAddresses {
				continue
			}
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}

// readFile gives the start of a regular file; "" when there is none.
func readFile(dir int, name string) string {
	// O_NONBLOCK: whatever else lies there must not stop the monitor.
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	var buf [maxFile]byte
	n, err := unix.Read(fd, buf[:])
	_ = unix.Close(fd)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// pointer answers a reverse question; nil when the address is unknown.
func (r *Resolver) pointer(b []byte, q *query, a netip.Addr) []byte {
	var out []byte
	for _, n := range r.networks {
		for line := range strings.Lines(readFile(unix.AT_FDCWD, r.dir+"/"+n+"/.ptr/"+a.String())) {
			name := strings.TrimSpace(line)
			wire := wireName(name)
			if wire == nil || !safe(name) {
				continue
			}
			if out == nil {
				out = reply(b, q, rcodeOK)
				out[2] |= flagAuthority
			}
			if len(out)+12+len(wire)+optLen > plainSize {
				break
			}
			out = addRecord(out, typePTR, wire)
		}
	}
	if out == nil {
		return nil
	}
	return addOPT(out, q)
}

// reverse reads an address out of a name below in-addr.arpa or ip6.arpa.
func reverse(name string) (netip.Addr, bool) {
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		p := strings.Split(s, ".")
		if len(p) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return a, err == nil
	}
	s, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(s) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		c := s[62-2*i]
		if i > 0 && s[63-2*i] != '.' {
			return netip.Addr{}, false
		}
		var v byte
		switch {
		case c >= '0' && c <= '9':
			v = c - '0'
		case c >= 'a' && c <= 'f':
			v = c - 'a' + 10
		default:
			return netip.Addr{}, false
		}
		b[i/2] = b[i/2]<<4 | v
	}
	return netip.AddrFrom16(b), true
}
