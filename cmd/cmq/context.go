package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opencmq/cmq/client"
)

func (a *app) contextCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "context", Short: "save endpoints and keys under names"}
	add := &cobra.Command{
		Use:   "add NAME --endpoint URL --secret-id ID --secret-key KEY",
		Short: "save an endpoint with its key, and use it from now on",
		Args:  exactly("NAME"),
		RunE:  func(_ *cobra.Command, args []string) error { return a.addContext(args[0]) },
	}
	a.targetFlags(add)
	cmd.AddCommand(add,
		&cobra.Command{
			Use: "list", Short: "list the saved contexts; * marks the one in use", Args: exactly(),
			RunE: func(*cobra.Command, []string) error { return a.listContexts() },
		},
		&cobra.Command{
			Use: "use NAME", Short: "use this context from now on", Args: exactly("NAME"),
			RunE: func(_ *cobra.Command, args []string) error { return a.useContext(args[0]) },
		},
		&cobra.Command{
			Use: "remove NAME", Short: "forget a saved context", Args: exactly("NAME"),
			RunE: func(_ *cobra.Command, args []string) error { return a.removeContext(args[0]) },
		})
	return parent(cmd)
}

func (a *app) addContext(name string) error {
	t, err := a.resolve()
	if err != nil {
		return err
	}
	if _, err := client.New(t.endpoints[0], t.secretID, t.secretKey, client.WithEndpoints(t.endpoints[1:]...)); err != nil {
		return usageError{err.Error()}
	}
	all, _, err := a.loadContexts()
	if err != nil {
		return err
	}
	all.Contexts[name] = savedContext{strings.Join(t.endpoints, ","), t.secretID, t.secretKey}
	all.Current = name
	return a.saveContexts(all)
}

func (a *app) listContexts() error {
	all, _, err := a.loadContexts()
	if err != nil {
		return err
	}
	type line struct {
		Name     string `json:"name"`
		Current  bool   `json:"current"`
		Endpoint string `json:"endpoint"`
		SecretID string `json:"secretId"`
	}
	lines, rows := []line{}, [][]string{}
	for _, name := range slices.Sorted(maps.Keys(all.Contexts)) {
		c := all.Contexts[name]
		mark := ""
		if name == all.Current {
			mark = "*"
		}
		lines = append(lines, line{name, name == all.Current, c.Endpoint, c.SecretID})
		rows = append(rows, []string{mark, name, c.Endpoint, c.SecretID})
	}
	return a.show(lines, []string{"", "name", "endpoint", "secret id"}, rows)
}

func (a *app) useContext(name string) error {
	if _, err := a.savedContext(name); err != nil {
		return err
	}
	all, _, err := a.loadContexts()
	if err != nil {
		return err
	}
	all.Current = name
	return a.saveContexts(all)
}

func (a *app) removeContext(name string) error {
	if _, err := a.savedContext(name); err != nil {
		return err
	}
	all, _, err := a.loadContexts()
	if err != nil {
		return err
	}
	delete(all.Contexts, name)
	if all.Current == name {
		all.Current = ""
		fmt.Fprintln(a.stderr, "cmq: no context is in use now; choose one with: cmq context use NAME")
	}
	return a.saveContexts(all)
}
