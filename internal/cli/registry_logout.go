package cli

import (
	"github.com/spf13/cobra"

	"github.com/cove-engine/cove/internal/image"
)

func logoutCommand(a *app) *cobra.Command {
	o := image.LogoutOptions{Stdout: a.Out}
	c := &cobra.Command{
		Use:  "logout [options] [REGISTRY]",
		Long: "Remove the cached username and password for the registry.",
		Example: "  cove logout quay.io\n" +
			"  cove logout --authfile dir/auth.json quay.io\n" +
			"  cove logout --all",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if o.All && len(args) > 0 {
				return usagef("--all takes no arguments")
			}
			eng, err := a.imageEngine()
			if err != nil {
				return err
			}
			return eng.Logout(c.Context(), first(args), o)
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&o.All, "all", "a", false, "Remove the cached credentials for all registries in the auth file")
	fs.StringVar(&o.AuthFile, "authfile", "", "path of the authentication file. Use REGISTRY_AUTH_FILE environment variable to override")
	fs.StringVar(&o.CompatFile, "compat-auth-file", "", "path of a Docker-compatible config file to update instead")
	return c
}
