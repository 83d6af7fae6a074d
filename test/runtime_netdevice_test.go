package test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// inNetwork runs a shell script in a network namespace of its own, in which
// $RUNTIME calls the runtime.
func (b *bundle) inNetwork(script string) string {
	b.t.Helper()
	b.write()
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := b.command()
	cmd.Env = append(cmd.Environ(), "RUNTIME="+strings.Join(cmd.Args, " "), "BUNDLE="+b.dir)
	cmd.Path, cmd.Args = unshare, []string{"unshare", "--net", "sh", "-euc", script}
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// devices are what ip says of all devices but lo and the other ends: index, name,
// MTU, whether it is up, and addresses.
func devices(text string) string {
	var all []string
	own := false
	for line := range strings.Lines(text) {
		if m := regexp.MustCompile(`^(\d+: [^@:]+)[@:].*<(.*)>( mtu \d+)`).FindStringSubmatch(line); m != nil {
			if own = !strings.HasSuffix(m[1], ": lo") && !strings.HasSuffix(m[1], "-end"); own {
				up := map[bool]string{true: " up"}[regexp.MustCompile(`\bUP\b`).MatchString(m[2])]
				all = append(all, m[1]+m[3]+up)
			}
		} else if m := regexp.MustCompile(`(ether|inet6?) \S+( (peer|brd) 1\S+)?`).FindString(line); own && m != "" {
			all = append(all, m)
		}
	}
	return strings.Join(all, "\n")
}

const makeDevices = `
	ip link add one index 50 address 02:00:00:00:00:01 mtu 1400 type veth peer name one-end
	ip link add two index 60 address 02:00:00:00:00:02 type veth peer name two-end
	ip link add three index 70 address 02:00:00:00:00:03 type veth peer name three-end
	ip link set one up; ip address add 10.9.8.7/24 broadcast + dev one; ip address add 10.9.8.8/24 dev one
	ip address add 10.1.1.1 peer 10.1.1.2/32 dev one; ip address add 169.254.9.9/16 scope link dev one
	ip -6 address add fd00:9::7/64 nodad dev two; ip address add 10.9.6.6/24 label three:x dev three
`

// takenDevices makes a namespace /proc/ITS/ns/net for the bundle, where a name and an
// index are another device's.
const takenDevices = `
	unshare --net sleep 60 & its=$!
	while test "$(readlink /proc/$its/ns/net)" = "$(readlink /proc/$$/ns/net)"; do sleep 0.02; done
	trap "kill $its" EXIT
	nsenter --target $its --net ip link add taken index 50 type veth peer name other-end index 51
	sed -i "s,/proc/ITS,/proc/$its," $BUNDLE/config.json
`

// A container in the foreground lets go of its network when it ends: what was
// made of the host's before its poststop hooks.
func TestRuntimeNetDevicesEnd(t *testing.T) {
	b := newBundle(t, "true")
	b.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {}}
	b.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", `
		PATH=/usr/sbin:/usr/bin:/sbin:/bin
		for i in $(seq 100); do
			ip link show one-end || exit 0
			sleep 0.05
		done
		touch ` + b.dir + `/held`}}}}
	b.inNetwork(makeDevices + `$RUNTIME run --bundle $BUNDLE c`)
	if exists(b.dir + "/held") {
		t.Error("the other end of a device is there 5 s after the container's end")
	}
}

// Devices come with their index, hardware's address, MTU and addresses that are
// permanent and global, under the name that was asked for, and up.
func TestRuntimeNetDevices(t *testing.T) {
	b := newBundle(t, "busybox ip address")
	b.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {}, "two": {Name: "eth0"}, "three": {Name: "lan%d"}}
	b.expect(devices(b.inNetwork(makeDevices+`
		ip address add 10.9.7.7/24 dev two valid_lft 1000 preferred_lft 1000
		$RUNTIME run --bundle $BUNDLE c; ip address`)), `50: one mtu 1400 up
ether 02:00:00:00:00:01
inet 10.9.8.7/24 brd 10.9.8.255
inet 10.1.1.1 peer 10.1.1.2/32
inet 10.9.8.8/24
60: eth0 mtu 1500 up
ether 02:00:00:00:00:02
inet6 fd00:9::7/64
70: lan0 mtu 1500 up
ether 02:00:00:00:00:03
inet 10.9.6.6/24`)
}

// A create that fails leaves the devices as they were, wherever it was by then.
func TestRuntimeNetDevicesBack(t *testing.T) {
	b := newBundle(t, "true")
	const (
		one = `50: one mtu 1400 up
ether 02:00:00:00:00:01
inet 169.254.9.9/16
inet 10.9.8.7/24 brd 10.9.8.255
inet 10.1.1.1 peer 10.1.1.2/32
inet 10.9.8.8/24
`
		two = `60: two mtu 1500
ether 02:00:00:00:00:02
inet6 fd00:9::7/64
`
		three = `70: three mtu 1500
ether 02:00:00:00:00:03
inet 10.9.6.6/24`
	)
	for name, row := range map[string]struct {
		change      func()
		first, says string
	}{
		"a hook": {func() {
			b.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/false"}}}
			b.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {}, "two": {Name: "eth0"}, "three": {Name: "lan%d"}}
		}, "", "createRuntime"},
		"no device": {func() {
			b.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {}, "two": {Name: "eth0"}, "vier": {}}
		}, "", "linux.netDevices: vier: no such device"},
		"not movable": {func() {
			b.Linux.NetDevices = map[string]specs.LinuxNetDevice{"lo": {Name: "lo2"}}
		}, "", "linux.netDevices: lo: invalid argument"},
		"no name": {func() {
			b.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {Name: "a name"}}
		}, "", "linux.netDevices: one: invalid argument"},
		"a taken name": {func() {
			b.setNamespace(specs.NetworkNamespace, "/proc/ITS/ns/net")
			b.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {Name: "first"}, "two": {Name: "taken"}}
		}, takenDevices, "linux.netDevices: two: file exists"},
		"the host's network": {func() {
			b.setNamespace(specs.NetworkNamespace, "-")
			b.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {}}
		}, "", "linux.netDevices: there is no network namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			b.Hooks = nil
			b.setNamespace(specs.NetworkNamespace, "")
			row.change()
			out := b.inNetwork(makeDevices + row.first + `if $RUNTIME run --bundle $BUNDLE c; then exit 1; fi; ip address`)
			if !strings.Contains(out, row.says) {
				t.Errorf("want %q in %s", row.says, out)
			}
			if got := devices(out); got != one+two+three {
				t.Errorf("got %s\nwant %s\n%s", got, one+two+three, out)
			}
		})
	}
}

// In a namespace with other devices.
func TestRuntimeNetDevicesPath(t *testing.T) {
	b := newBundle(t, "busybox ip address")
	b.setNamespace(specs.NetworkNamespace, "/proc/ITS/ns/net")
	b.Linux.NetDevices = map[string]specs.LinuxNetDevice{"one": {Name: "mine%d"}}
	got := devices(b.inNetwork(makeDevices + takenDevices + `$RUNTIME run --bundle $BUNDLE c`))
	b.expect(regexp.MustCompile(`(?m)^50: taken.*\nether.*\n`).ReplaceAllString(got, ""), `52: mine0 mtu 1400 up
ether 02:00:00:00:00:01
inet 10.9.8.7/24 brd 10.9.8.255
inet 10.1.1.1 peer 10.1.1.2/32
inet 10.9.8.8/24`)
}
