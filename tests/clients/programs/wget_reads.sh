# Reads and a write as a shell script does them with Wget: wget_reads.sh URL TOKEN
set -eu
url=$1 token=$2

tell() { # prints [status of wget, body]
  status=0
  wget --quiet --tries=1 --timeout=30 --content-on-error --output-document=body "$@" || status=$?
  [ "$status" = 0 ] || [ "$status" = 8 ] || exit "$status" # 8: an answer that tells of an error
  echo "[$status,$(cat body)]"
}

next_page() {
  sed -n 's/.*"next": *"\([^"]*\)".*/\1/p' body | sed 's,\\/,/,g; s,\\u0025,%,g'
}

page="$url/v25.0/act_1/campaigns?limit=4&access_token=$token"
while [ -n "$page" ]; do
  tell "$page"
  page=$(next_page)
done
tell --header="Authorization: Bearer $token" "$url/v25.0/1001"
tell --header="Authorization: Bearer $token" "$url/v25.0/1001"
tell "$url/v25.0/404001?access_token=$token"
tell --post-data="name=new&access_token=$token" "$url/v25.0/1001"
