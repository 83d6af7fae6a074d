package ctrinit

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove/internal/monitor/wire"
	"github.com/cove-engine/cove/internal/plan"
)

// databaseLimit is how much of the container's passwd and group files is
// read: they are the image's, and may be anything.
const databaseLimit = 10 << 20

func (p *process) resolveUser() *wire.Failure {
	return ResolveUser(&p.plan.Process, p.plan.Accounts, -1)
}

// ResolveUser turns a process's user and groups into numbers, by the
// container's own /etc/passwd and /etc/group, and finds HOME. Numbers need
// no entry; a, if not nil, has those that are added. root is the descriptor of
// the container's root, -1 for one's own.
func ResolveUser(pr *plan.Process, a *plan.Accounts, root int) *wire.Failure {
	if pr.User == "" && len(pr.Groups) == 0 && !pr.SetHome {
		return nil
	}
	passwd := readDatabase(root, "/etc/passwd")
	group := readDatabase(root, "/etc/group")
	userName, groupName, hasGroup := strings.Cut(pr.User, ":")
	if hasGroup {
		gid, ok := findGroup(group, groupName)
		if !ok {
			return &wire.Failure{Step: "find group " + groupName, Text: "no matching entries in group file"}
		}
		pr.GID = gid
	}
	if a != nil {
		var f *wire.Failure
		if passwd, f = complete(root, passwd, a, pr.GID); f != nil {
			return f
		}
	}
	var entry []string // of the user in passwd
	if userName != "" {
		entry = find(passwd, 7, func(f []string) bool { return f[0] == userName })
	}
	if entry == nil {
		uid := pr.UID
		if userName != "" {
			n, err := strconv.ParseUint(userName, 10, 31)
			if err != nil {
				return &wire.Failure{Step: "find user " + userName, Text: "no matching entries in passwd file"}
			}
			uid = uint32(n)
		}
		pr.UID = uid
		entry = findUser(passwd, uid)
	} else {
		n, err := strconv.ParseUint(entry[2], 10, 31)
		if err != nil {
			return &wire.Failure{Step: "find user " + userName, Text: "its entry in /etc/passwd is malformed"}
		}
		pr.UID = uint32(n)
	}
	if pr.User != "" && entry != nil && !hasGroup {
		if n, err := strconv.ParseUint(entry[3], 10, 31); err == nil {
			pr.GID = uint32(n)
		}
	}
	for _, name := range pr.Groups {
		gid, ok := findGroup(group, name)
		if !ok {
			return &wire.Failure{Step: "find group " + name, Text: "no matching entries in group file"}
		}
		pr.GIDs = append(pr.GIDs, gid)
	}
	if entry != nil && !hasGroup {
		pr.GIDs = append(pr.GIDs, memberships(group, entry[0])...)
	}
	// The primary group of a user who was asked for is one of the groups, as
	// getgroups(2) shows it after a login. Who changes root's own user by
	// setuid(2) alone is to keep none of root's.
	var all []uint32
	if pr.User != "" {
		all = []uint32{pr.GID}
	}
	for _, gid := range pr.GIDs {
		if !slices.Contains(all, gid) {
			all = append(all, gid)
		}
	}
	pr.GIDs = all
	if pr.SetHome && !hasHome(pr.Env) {
		home := "/"
		if entry != nil && entry[5] != "" {
			home = entry[5]
		}
		pr.Env = append(pr.Env, "HOME="+home)
	}
	return nil
}

func hasHome(env []string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, "HOME=") {
			return true
		}
	}
	return false
}

// readDatabase reads a regular file of the container's; anything else counts
// as empty.
func readDatabase(root int, name string) []byte {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: within(root) | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(root, name, &how)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > databaseLimit {
		return nil
	}
	data, err := ReadAll(fd)
	if err != nil {
		return nil
	}
	return data
}

// find returns the fields of the first line that has at least n of them and
// matches, passwd(5) and group(5).
func find(data []byte, n int, match func([]string) bool) []string {
	for line := range bytes.Lines(data) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) >= n && match(f) {
			return f
		}
	}
	return nil
}

func findUser(data []byte, uid uint32) []string {
	id := strconv.FormatUint(uint64(uid), 10)
	return find(data, 7, func(f []string) bool { return f[2] == id })
}

func findGroup(data []byte, name string) (uint32, bool) {
	f := find(data, 3, func(f []string) bool { return f[0] == name })
	number := name
	if f != nil {
		number = f[2]
	}
	n, err := strconv.ParseUint(number, 10, 31)
	return uint32(n), err == nil
}

// memberships lists the groups that name the user as a member.
func memberships(data []byte, user string) (gids []uint32) {
	find(data, 4, func(f []string) bool {
		for _, m := range strings.Split(f[3], ",") {
			if m == user {
				if n, err := strconv.ParseUint(f[2], 10, 31); err == nil {
					gids = append(gids, uint32(n))
				}
			}
		}
		return false
	})
	return gids
}
