"""Cross-validation folds that stand once for all, so that results of different papers and machines compare.

"ravdess" has the five folds of the literature on emotion recognition with it: the test actors of each. No such file is
known to us for CREMA-D; "crema_d" has five folds of our own, which are those of `fold_speakers` with seed 0, written
down. Both are numbered from 0 here.
"""

FIXED_FOLDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ravdess": (
        ("02", "05", "14", "15", "16"),
        ("03", "06", "07", "13", "18"),
        ("10", "11", "12", "19", "20"),
        ("08", "17", "21", "23", "24"),
        ("01", "04", "09", "22"),
    ),
    "crema_d": tuple(
        tuple(line.split())
        for line in (
            "1001 1009 1011 1013 1015 1017 1028 1030 1031 1034 1038 1039 1044 1056 1060 1068 1074 1079 1090",
            "1002 1003 1006 1008 1018 1035 1036 1042 1043 1048 1059 1066 1071 1075 1078 1082 1083 1089",
            "1004 1014 1020 1021 1022 1051 1052 1053 1057 1058 1061 1063 1064 1067 1076 1081 1084 1087",
            "1007 1016 1026 1027 1029 1032 1037 1045 1046 1047 1049 1050 1054 1055 1072 1073 1088 1091",
            "1005 1010 1012 1019 1023 1024 1025 1033 1040 1041 1062 1065 1069 1070 1077 1080 1085 1086",
        )
    ),
}
