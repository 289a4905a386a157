package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Print writes every setting with its value as a configuration file. Secrets are left out.
func (c *Config) Print(w io.Writer) error { return print(w, Keys(), reflect.ValueOf(c).Elem()) }

func print(w io.Writer, keys []Key, values reflect.Value) error {
	section := ""
	for _, k := range keys {
		name, indent := k.Name, ""
		if s, last, ok := strings.Cut(k.Name, "."); ok {
			if s != section {
				section = s
				if _, err := fmt.Fprintf(w, "%s:\n", s); err != nil {
					return err
				}
			}
			name, indent = last, "  "
		}
		value := fmt.Sprintf("%q", format(values.FieldByIndex(k.field)))
		if k.Secret && value != `""` {
			value = `"" # set, not shown`
		}
		if _, err := fmt.Fprintf(w, "%s%s: %s\n", indent, name, value); err != nil {
			return err
		}
	}
	return nil
}

// Reference writes the page that documents every key, docs/configuration.md.
func Reference(w io.Writer) error {
	if err := reference(w, referenceHead, Keys()); err != nil {
		return err
	}
	return reference(w, agentHead, AgentKeys())
}

func reference(w io.Writer, head string, keys []Key) error {
	_, err := io.WriteString(w, head)
	for _, k := range keys {
		if err != nil {
			return err
		}
		def := "`" + k.Default + "`"
		if k.Default == "" {
			def = "(empty)"
		}
		doc := k.Doc
		if len(k.oneof) > 0 {
			doc += " One of `" + strings.Join(k.oneof, "`, `") + "`."
		}
		_, err = fmt.Fprintf(w, "| `%s` | `%s` | `--%s` | %s | %s |\n", k.Name, k.Env, k.Flag, def, strings.ReplaceAll(doc, "|", `\|`))
	}
	return err
}

const referenceHead = `# Configuration of a server

` + "`cmq server --config cmq.yaml`" + ` reads one YAML file. Every key can also be an environment variable or a flag; the flag wins
over the variable, the variable over the file, the file over the default. Unknown keys, keys given twice and wrong
values are errors, all reported at once with file and line; nothing is written before the configuration is valid.
` + "`cmq server --check-config`" + ` only checks, ` + "`--print-config`" + ` shows the result (without the secret).

Durations carry their unit (` + "`500ms`, `45s`, `2h`" + `). Changes need a restart. A node of three:

` + "```yaml" + `
data_dir: /var/lib/cmq
node:
  id: 1
cluster:
  name: shop
  nodes:                    # the same on every node
    - {id: 1, peer: "10.0.0.1:7672"}
    - {id: 2, peer: "10.0.0.2:7672"}
    - {id: 3, peer: "10.0.0.3:7672"}
http:  {addr: "10.0.0.1:7670"}
tcp:   {addr: "10.0.0.1:7671"}
peer:  {addr: "10.0.0.1:7672"}
auth:
  secret_id: AKIDshop
  secret_key_file: /etc/cmq/secret
` + "```" + `

This page is written by a test from the tags in internal/config/config.go (` + "`go test ./internal/config -update`" + `).

| key | variable | flag | default | meaning |
|---|---|---|---|---|
`

const agentHead = `
# Configuration of an agent

` + "`cmq agent`" + ` takes its settings in the same way, from ` + "`--config agent.yaml`" + `, variables and flags. What it does is described in
[push.md](push.md#agents-delivering-in-a-private-network). An endpoint or key that is given nowhere is that of the saved context (` + "`--context`, `CMQ_CONTEXT`, `cmq context`" + `).

` + "```yaml" + `
name: plant
endpoint: ["https://cmq-1.example.com", "https://cmq-2.example.com"]
secret_id: AKIDshop
secret_key_file: /etc/cmq/secret
push:
  allow: ["10.20.0.0/16"]
` + "```" + `

| key | variable | flag | default | meaning |
|---|---|---|---|---|
`
