package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cove-engine/cove"
)

// checkValues refuses what podman's commands all refuse, in its words. What only
// some commands need they look at themselves.
func (c *Config) checkValues() error {
	engine := &c.File.Engine
	engine.EventsLogger = strings.ToLower(engine.EventsLogger)
	if !slices.Contains([]string{"file", "journald", "none"}, engine.EventsLogger) {
		return cove.E("", "", cove.Invalid, errors.New("unknown event logger type: "+engine.EventsLogger))
	}
	if m := c.flags.CgroupManager; m != "" && m != "cgroupfs" && m != "systemd" {
		return cove.E("", "", cove.Invalid, fmt.Errorf("cgroup manager must be one of cgroupfs and systemd, not %q", m))
	}
	if s := c.File.Network.DefaultSubnet; s != "" {
		if _, err := netip.ParsePrefix(s); err != nil {
			return cove.E("", "", cove.Invalid, errors.New("failed to parse default subnet: invalid CIDR address: "+s))
		}
	}
	return nil
}
