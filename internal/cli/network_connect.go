package cli

import (
	"github.com/spf13/cobra"

	"github.com/cove-engine/cove"
)

func networkConnectCommand(a *app) *cobra.Command {
	var f networkFlags
	c := &cobra.Command{
		Use:     "connect [options] NETWORK CONTAINER",
		Long:    "Add container to a network, running or not.",
		Example: "  cove network connect web secondary",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			f.aliasSet = c.Flags().Changed("alias")
			s := cove.ContainerSpec{Network: "bridge", Networks: []cove.NetworkAttachment{{Network: args[0]}}}
			if err := f.extra(&s); err != nil {
				return err
			}
			eng, err := a.engine()
			if err != nil {
				return err
			}
			return eng.ConnectNetwork(c.Context(), args[1], s.Networks[0])
		},
	}
	fs := c.Flags()
	fs.StringSliceVar(&f.aliases, "alias", nil, "network scoped alias for container")
	fs.StringVar(&f.ip, "ip", "", "set a static ipv4 address for this container network")
	fs.StringVar(&f.ip6, "ip6", "", "set a static ipv6 address for this container network")
	fs.StringVar(&f.mac, "mac-address", "", "set a static mac address for this container network")
	refuse(fs, []unsupported{{name: "driver-opt"}, {name: "link"}, {name: "link-local-ip"}, {name: "gw-priority"}})
	return c
}

func networkDisconnectCommand(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:     "disconnect [options] NETWORK CONTAINER",
		Long:    "Remove container from a network, running or not.",
		Example: "  cove network disconnect web secondary",
		Args:    cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			eng, err := a.engine()
			if err != nil {
				return err
			}
			return eng.DisconnectNetwork(c.Context(), args[1], args[0], force)
		},
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "force removal of container from network")
	return c
}
