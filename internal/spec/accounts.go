package spec

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// accounts are the lines for the user and the group that are given by number,
// and for users of the host's, podman's text. The group is known inside only: $GID.
func (b *builder) accounts() error {
	if b.in.NoPasswd {
		return nil
	}
	for _, name := range b.in.HostUsers {
		if err := b.hostUser(name); err != nil {
			return err
		}
	}
	user, group, hasGroup := strings.Cut(b.extra.User, ":")
	if uid, numeric, _ := parseID(user); numeric {
		b.extra.Passwd = append(b.extra.Passwd, Account{ID: uid, Line: b.passwdLine(uid)})
	}
	if !hasGroup {
		group = user
	}
	if gid, numeric, _ := parseID(group); numeric {
		line := fmt.Sprintf("%d:x:%d:%s", gid, gid, user)
		if e := b.in.GroupEntry; e != "" {
			id := strconv.FormatUint(uint64(gid), 10)
			line = strings.NewReplacer("$GROUPNAME", id, "$GID", id, "$USERLIST", user).Replace(e)
		}
		b.extra.Group = append(b.extra.Group, Account{ID: gid, Line: line})
	}
	return nil
}

// hostUser adds a user of the host's. His home is what it is there if it is
// mounted, or a directory above it.
func (b *builder) hostUser(name string) error {
	u, ok := HostUser{}, false
	if b.host.LookupUser != nil {
		u, ok = b.host.LookupUser(name)
	}
	if !ok {
		return invalid("--hostuser: unknown user %s", name)
	}
	home := b.out.Process.Cwd
	for dir := path.Clean(u.Home); path.IsAbs(dir) && dir != "/"; dir = path.Dir(dir) {
		if slices.ContainsFunc(b.out.Mounts, func(m specs.Mount) bool { return m.Destination == dir }) {
			home = u.Home
			break
		}
	}
	uid, gid := strconv.FormatUint(uint64(u.UID), 10), strconv.FormatUint(uint64(u.GID), 10)
	line := fmt.Sprintf("%s:*:%s:%s:%s:%s:/bin/sh", u.Name, uid, gid, u.FullName, home)
	if e := b.in.PasswdEntry; e != "" {
		line = strings.NewReplacer("$USERNAME", u.Name, "$UID", uid, "$GID", gid, "$NAME", u.FullName, "$HOME", home).Replace(e)
	}
	b.extra.Passwd = append(b.extra.Passwd, Account{Name: u.Name, ID: u.UID, Line: line})
	return nil
}

// passwdLine is that of a user without a name. The host may have one for him.
func (b *builder) passwdLine(uid uint32) string {
	id, home := strconv.FormatUint(uint64(uid), 10), b.out.Process.Cwd
	if e := b.in.PasswdEntry; e != "" {
		return strings.NewReplacer("$USERNAME", id, "$UID", id, "$NAME", "container user", "$HOME", home).Replace(e)
	}
	name, full := id, "container user"
	if b.host.LookupUser != nil {
		if u, ok := b.host.LookupUser(id); ok {
			name, full = u.Name, u.FullName
		}
	}
	return fmt.Sprintf("%s:*:%d:$GID:%s:%s:/bin/sh", name, uid, full, home)
}
