// Uploads three megabytes to the first URL, then reads the second, with the client that keeps connections.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
)

func ask(method string, url string, body []byte) {
	call, _ := http.NewRequest(method, url, bytes.NewReader(body))
	reply, err := http.DefaultClient.Do(call)
	if err != nil {
		fmt.Println("error", err)
		return
	}
	defer reply.Body.Close()
	text, _ := io.ReadAll(reply.Body)
	fmt.Println(reply.StatusCode, string(text))
}

func main() {
	ask("POST", os.Args[1], bytes.Repeat([]byte{0xc3}, 3000000))
	ask("GET", os.Args[2], nil)
}
