# kind=need: something that this setup looks for and never installs.
#   program=  what has to be there      minimum=, version=  how new, and how to ask
#   by_hand=  what to do

need_present() {
    programs_present "$1" && version_suffices "$1"
}

need_possible() {
    return 1
}

need_by_hand() {
    field "$1" by_hand
}
